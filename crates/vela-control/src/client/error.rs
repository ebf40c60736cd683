use std::io;
use std::path::PathBuf;

use vela_protocol::{ApiError, ErrorCode};

use crate::TransportError;

/// Why a request to a daemon gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No daemon was reached.
    #[error("the server is unreachable")]
    Unreachable(#[source] TransportError),
    /// The daemon refused the request, or failed to do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The connection broke during a request. Whether the daemon did it is unknown.
    #[error("the connection to {address} was lost")]
    Lost {
        /// The server.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The daemon speaks other words than this client.
    #[error(
        "the server speaks version {server} of the protocol, this client version {}",
        vela_protocol::VERSION
    )]
    Version {
        /// The version of the daemon's words.
        server: u32,
    },
    /// What answered is not a daemon's API.
    #[error("{address} answered something that is not Vela's API: {what}")]
    Protocol {
        /// The server.
        address: String,
        /// What was unexpected.
        what: String,
    },
    /// The file to upload could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stream to upload could not be read, or has another length than was announced.
    #[error("cannot read what is to be uploaded")]
    Source(#[source] io::Error),
}

impl ClientError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::Unreachable(error) => error.hint(),
            ClientError::Api(error) => error.report.hint.clone(),
            ClientError::Version { server } if *server > vela_protocol::VERSION => {
                Some("install the server's version of vela here".into())
            }
            ClientError::Version { .. } => {
                Some("install this version of vela on the server and run `vela setup` there".into())
            }
            _ => None,
        }
    }

    /// Whether the server could not be reached, or was lost and not found again.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable(_) | ClientError::Lost { .. })
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            ClientError::Unreachable(error) => error.is_transient(),
            ClientError::Lost { .. } => true,
            // A daemon that is stopping is about to be started again.
            ClientError::Api(error) => error.code == ErrorCode::Unavailable,
            _ => false,
        }
    }
}
