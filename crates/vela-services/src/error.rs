use std::error::Error;
use std::time::Duration;

use crate::InvalidPostgresUrl;

/// Why a service can't be had. No variant holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The spec has no `url`, and this provisioner starts no service of its own.
    #[error("`{kind}` needs the `url` of a service that exists")]
    MissingUrl {
        /// The kind of service.
        kind: &'static str,
    },

    /// The spec asks for what this provisioner does not do.
    #[error("`{kind}` with a `url` cannot have `{key}`")]
    Unsupported {
        /// The kind of service.
        kind: &'static str,
        /// The part of the spec.
        key: &'static str,
    },

    /// The `url` can't be used.
    #[error("the `url` of `{kind}` is not usable")]
    InvalidUrl {
        /// The kind of service.
        kind: &'static str,
        /// What is wrong with it.
        source: InvalidPostgresUrl,
    },

    /// Nothing answers at the address.
    #[error("cannot connect to `{kind}` at {address}")]
    Unreachable {
        /// The kind of service.
        kind: &'static str,
        /// Host and port, or the socket's path.
        address: String,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },

    /// Something accepts the connection, but does not answer in time.
    #[error("no answer from `{kind}` at {address} within {after:?}")]
    TimedOut {
        /// The kind of service.
        kind: &'static str,
        /// Host and port, or the socket's path.
        address: String,
        /// The time it had.
        after: Duration,
    },

    /// The user or the password is not accepted.
    #[error("`{kind}` at {address} refuses the user `{user}`")]
    AuthRefused {
        /// The kind of service.
        kind: &'static str,
        /// Host and port, or the socket's path.
        address: String,
        /// Who was refused.
        user: String,
        /// What the server said.
        source: Box<dyn Error + Send + Sync>,
    },

    /// The server works, but has no such database.
    #[error("`{kind}` at {address} has no database `{database}`")]
    NoSuchDatabase {
        /// The kind of service.
        kind: &'static str,
        /// Host and port, or the socket's path.
        address: String,
        /// The database that is missing.
        database: String,
        /// What the server said.
        source: Box<dyn Error + Send + Sync>,
    },

    /// Anything else that the service answered, or what answered is not such a service.
    #[error("`{kind}` at {address} is not usable")]
    Failed {
        /// The kind of service.
        kind: &'static str,
        /// Host and port, or the socket's path.
        address: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ServiceError {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::MissingUrl { .. } => {
                "give it the url of the database: postgres://user:password@host:5432/database"
                    .into()
            }
            Self::Unsupported { key, .. } => {
                format!("create it on that server yourself and leave `{key}` out")
            }
            Self::InvalidUrl { source, .. } => source.hint(),
            Self::Unreachable { address, .. } | Self::TimedOut { address, .. } => {
                format!("check that the server runs, and that {address} can be reached from here")
            }
            Self::AuthRefused { user, .. } => format!(
                "check the password in the url, percent-encoded where it has special \
                 characters, and that the server's pg_hba.conf lets `{user}` in from here \
                 without TLS"
            ),
            Self::NoSuchDatabase { database, .. } => {
                format!(
                    "create it on that server: CREATE DATABASE \"{}\"",
                    database.replace('"', "\"\"")
                )
            }
            Self::Failed { .. } => return None,
        })
    }
}
