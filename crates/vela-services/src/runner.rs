use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

/// Runs the servers that provisioners need: the host program's supervision, as seen from here.
///
/// [`Children`](crate::Children) is one for programs that have none. Contract:
///
/// - A server is known by its [`ServerName`]; there is never a second one of the same name.
/// - A server that was asked for with [`keep`](Runner::keep) is started again whenever it ends by
///   itself, with growing pauses, until [`stop`](Runner::stop).
/// - Every method is idempotent and cancel safe.
#[async_trait]
pub trait Runner: Debug + Send + Sync {
    /// The user that servers of `service` run as, made when missing, whose home is `home`; `None`
    /// for the user of the host program, which without root is the only one there is.
    ///
    /// # Errors
    ///
    /// If the user can't be made.
    async fn user(&self, service: &str, home: &Path) -> Result<Option<ServerUser>, RunnerError>;

    /// Sees to it that the server runs and goes on running. One of that name that runs already,
    /// also since before a restart of the host program, is left as it is; `spec` is then what it
    /// is started with the next time.
    ///
    /// Returns when its program was executed, which is long before it accepts connections.
    ///
    /// # Errors
    ///
    /// If the program can't be executed now. It is not tried again.
    async fn keep(&self, spec: &ServerSpec) -> Result<(), RunnerError>;

    /// Ends the server with its stop signal, and after its grace with every process it started.
    /// Returns when all of it is gone. One that does not run is no error.
    ///
    /// # Errors
    ///
    /// If it can't be ended.
    async fn stop(&self, name: &ServerName) -> Result<(), RunnerError>;

    /// Sends a signal to the server's main process.
    ///
    /// # Errors
    ///
    /// If it does not run.
    async fn signal(&self, name: &ServerName, signal: ServerSignal) -> Result<(), RunnerError>;

    /// How the server is, with the last `lines` lines that it wrote, the last one last. A server
    /// that was never started has an empty state.
    async fn state(&self, name: &ServerName, lines: usize) -> ServerState;
}

/// The name of one server: lower-case letters, digits and `-`, starting with a letter, at most 32
/// bytes. It is safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(String);

/// A text that is not a [`ServerName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be the name of a server: a-z, 0-9 and `-`, starting with a letter, at most 32"
)]
pub struct InvalidServerName(String);

impl ServerName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// If it is not such a name.
    pub fn parse(name: &str) -> Result<Self, InvalidServerName> {
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_name = name.len() <= 32
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(allowed);
        if is_name {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidServerName(name.chars().take(80).collect()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How to run a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its name.
    pub name: ServerName,
    /// The program file. `PATH` is not searched.
    pub program: PathBuf,
    /// Its arguments. Never a secret: every user of the machine can read them.
    pub args: Vec<String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Who runs it, as [`Runner::user`] gave it.
    pub user: Option<ServerUser>,
    /// What asks it to end.
    pub stop_signal: ServerSignal,
    /// How long it may take to end, before it is killed.
    pub stop_grace: Duration,
}

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUser {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The id of the primary group.
    pub gid: u32,
}

/// The signals that servers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerSignal {
    /// HUP: read the configuration again.
    Hangup,
    /// INT: end; Postgres cuts its clients off for it ("fast shutdown").
    Interrupt,
    /// TERM: end.
    Terminate,
}

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerState {
    /// Its main process, while it runs.
    pub pid: Option<u32>,
    /// How often it ended by itself and was started again since the host program started.
    pub restarts: u64,
    /// How it ended the last time, if it did: `exit code 1`.
    pub last_exit: Option<String>,
    /// The last lines that it wrote, the last one last.
    pub log: Vec<String>,
}

/// What a [`Runner`] could not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct RunnerError {
    action: String,
    source: Box<dyn Error + Send + Sync>,
}

impl RunnerError {
    /// `action` goes on after "cannot": `start postgres-15`.
    pub fn new(action: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            action: action.into(),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_as_file_names() {
        for name in ["nats", "postgres-15"] {
            assert_eq!(ServerName::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(33);
        for name in ["", "15", "../x", "a/b", "A", "a b", "a\0", &long] {
            assert!(ServerName::parse(name).is_err(), "{name:?}");
        }
    }
}
