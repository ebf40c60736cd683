use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::net::UnixStream;

use crate::socket_path;
use crate::transport::{Io, Transport, TransportError};

/// The way to a daemon on this machine.
#[derive(Debug, Clone)]
pub struct UnixTransport {
    sockets: Vec<PathBuf>,
    address: String,
}

impl UnixTransport {
    /// To the daemon at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> UnixTransport {
        let socket = socket.into();
        UnixTransport {
            address: format!("unix://{}", socket.display()),
            sockets: vec![socket],
        }
    }

    /// To this user's daemon or, if there is none, to the system's.
    pub fn local() -> UnixTransport {
        UnixTransport {
            address: "local".into(),
            sockets: socket_path::candidates(),
        }
    }
}

#[async_trait]
impl Transport for UnixTransport {
    async fn connect(&self) -> Result<Box<dyn Io>, TransportError> {
        match connect_first(&self.sockets).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(failure) => Err(failure.at(&self.address)),
        }
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

/// Why none of several sockets was opened: the reason of the one that tells most.
pub(crate) struct SocketFailure {
    pub(crate) socket: PathBuf,
    pub(crate) source: io::Error,
}

impl SocketFailure {
    pub(crate) fn is_absent(&self) -> bool {
        // A socket file without a listener was left behind by a daemon that is gone.
        matches!(
            self.source.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NotADirectory
        )
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    fn at(self, address: &str) -> TransportError {
        let address = address.to_owned();
        match (self.is_absent(), self.is_denied()) {
            (true, _) => TransportError::NoDaemon {
                address,
                socket: self.socket,
            },
            (_, true) => TransportError::Denied {
                address,
                socket: self.socket,
            },
            _ => TransportError::Socket {
                socket: self.socket,
                source: self.source,
            },
        }
    }
}

/// Opens the first socket that somebody listens on.
pub(crate) async fn connect_first(sockets: &[PathBuf]) -> Result<UnixStream, SocketFailure> {
    let mut worst: Option<SocketFailure> = None;
    for socket in sockets {
        match open(socket).await {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                let failure = SocketFailure {
                    socket: socket.clone(),
                    source,
                };
                // A socket that exists but cannot be opened says more than one that does not exist.
                if worst.as_ref().is_none_or(SocketFailure::is_absent) {
                    worst = Some(failure);
                }
            }
        }
    }
    Err(worst.unwrap_or_else(|| SocketFailure {
        socket: socket_path::SYSTEM_SOCKET.into(),
        source: io::ErrorKind::NotFound.into(),
    }))
}

async fn open(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket).await
}
