use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use crate::{DownloadError, InvalidPostgresUrl, RunnerError, ServerName};

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

    /// A part of the spec has a value that it can't have.
    #[error("`{kind}` cannot have `{value}` in `{key}`: {why}")]
    Invalid {
        /// The kind of service.
        kind: &'static str,
        /// The part of the spec.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },

    /// The server has no such extension.
    #[error("`postgres` at {address} has no extension `{extension}`")]
    NoSuchExtension {
        /// The server.
        address: String,
        /// What was asked for.
        extension: String,
        /// The server's major version.
        major: String,
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

    /// A server's programs are missing, and can't be installed here.
    #[error("`{kind}` is not installed{}", version.as_ref().map(|version| format!(" in version {version}")).unwrap_or_default())]
    NotInstalled {
        /// The kind of service.
        kind: &'static str,
        /// The version that is wanted.
        version: Option<String>,
        /// The command that installs it.
        command: String,
        /// What the attempt to install it wrote, the last lines.
        output: Vec<String>,
        /// Why it could not be installed.
        source: Box<dyn Error + Send + Sync>,
    },

    /// A download failed, or brought something else than what was wanted.
    #[error("`{kind}` could not be downloaded from {url}")]
    Download {
        /// The kind of service.
        kind: &'static str,
        /// From where.
        url: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },

    /// The owner's data is held by a server of another version.
    #[error("the data of `{owner}` is in {server}, and version {wanted} is asked for")]
    OtherVersion {
        /// Whose data.
        owner: String,
        /// Where it is.
        server: ServerName,
        /// What was asked for.
        wanted: String,
    },

    /// Something that the owner asks for belongs to another owner.
    #[error("{what} belongs to `{owner}`")]
    Taken {
        /// The database, say.
        what: String,
        /// Whose it is.
        owner: String,
    },

    /// A server was started and does not get ready.
    #[error("the server {server} does not get ready")]
    NotReady {
        /// The server.
        server: ServerName,
        /// The last lines of its log.
        log: Vec<String>,
        /// What it answered, or how it ended.
        source: Box<dyn Error + Send + Sync>,
    },

    /// One of the server's own tools failed, such as `initdb`.
    #[error("`{tool}` failed")]
    Tool {
        /// The program.
        tool: String,
        /// The last lines that it wrote.
        output: Vec<String>,
        /// How it ended.
        source: Box<dyn Error + Send + Sync>,
    },

    /// The host program could not run a server.
    #[error("the server {server} could not be run")]
    Runner {
        /// The server.
        server: ServerName,
        /// Why.
        source: RunnerError,
    },

    /// A file could not be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// A file of the provisioner's own is damaged. It is left as it is.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ServiceError {
    /// The last lines that a server or one of its tools wrote, where they tell more.
    #[must_use]
    pub fn output(&self) -> &[String] {
        match self {
            Self::NotInstalled { output, .. } | Self::Tool { output, .. } => output,
            Self::NotReady { log, .. } => log,
            _ => &[],
        }
    }

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
            Self::Invalid { key, .. } => format!("change it in `{key}`"),
            Self::NoSuchExtension {
                extension, major, ..
            } => format!(
                "check its name, or install it on the server: Debian has it in \
                 postgresql-contrib, or in postgresql-{major}-{extension} or a package of a \
                 name like that"
            ),
            Self::NotInstalled { command, .. } => format!("install it with: {command}"),
            Self::Download { kind, source, .. } => {
                match source.downcast_ref().and_then(DownloadError::hint) {
                    Some(hint) => hint.into(),
                    None => format!("install `{kind}` on the server yourself"),
                }
            }
            Self::OtherVersion { server, .. } => format!(
                "ask for the version of {server}, or move the data to a new app yourself: nothing is ever converted or dropped"
            ),
            Self::Taken { .. } => "choose another name".into(),
            Self::Damaged { path, .. } => {
                format!("restore {} from a backup, or move it away", path.display())
            }
            Self::Failed { .. }
            | Self::NotReady { .. }
            | Self::Tool { .. }
            | Self::Runner { .. }
            | Self::Io { .. } => return None,
        })
    }
}
