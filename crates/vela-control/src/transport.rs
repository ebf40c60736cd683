use std::fmt;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream to a daemon.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A way to a daemon's API.
///
/// Contract: each call gives a new, independent byte stream to the same daemon; calls may run at the same time. A
/// stream that is dropped is closed. Cancel safe: a dropped call leaves nothing behind that a later call trips over.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync {
    /// Opens a stream, and has made sure that a daemon's socket is at its other end.
    async fn connect(&self) -> Result<Box<dyn Io>, TransportError>;

    /// The server's name, for messages.
    fn address(&self) -> String;
}

/// Why no daemon was reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Nothing listens at the socket.
    #[error("no daemon listens on {} at {address}", socket.display())]
    NoDaemon {
        /// The server.
        address: String,
        /// The socket that was tried, the likeliest if several were.
        socket: PathBuf,
    },
    /// The user may not open the socket.
    #[error("no permission to open {} at {address}", socket.display())]
    Denied {
        /// The server.
        address: String,
        /// The socket.
        socket: PathBuf,
    },
    /// The socket could not be opened for another reason.
    #[error("cannot open {}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket's path has characters that a remote shell might take for syntax.
    #[error("the socket path {socket:?} cannot be named to a remote shell")]
    SocketName {
        /// The path.
        socket: PathBuf,
    },
    /// A host name has no address.
    #[error("cannot find the address of {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The SSH server does not answer.
    #[error("cannot connect to {host} port {port}")]
    Connect {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// `ssh -G` refused the user's configuration.
    #[error("ssh does not accept its configuration for {host}: {detail}")]
    Config {
        /// The host or alias.
        host: String,
        /// What `ssh` wrote.
        detail: String,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Program {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The connection through a jump host or proxy command ended before there was an SSH server.
    #[error("the proxy `{command}` did not reach the server: {detail}")]
    Proxy {
        /// The command.
        command: String,
        /// What it wrote to its standard error.
        detail: String,
    },
    /// What answers is no SSH server, or one that cannot be agreed with.
    #[error("the SSH handshake with {host} failed")]
    Handshake {
        /// The host.
        host: String,
        /// Why.
        source: SshError,
    },
    /// Nobody has vouched for this server's key.
    #[error("the {kind} key of {host} is unknown: {fingerprint}")]
    HostKeyUnknown {
        /// The host.
        host: String,
        /// The key's type.
        kind: String,
        /// The key's SHA-256 fingerprint, as `ssh` prints it.
        fingerprint: String,
    },
    /// The server's key is not the one that is known: a reinstalled server, or somebody in between.
    #[error("the {kind} key of {host} is not the known one: {fingerprint}")]
    HostKeyChanged {
        /// The host.
        host: String,
        /// The key's type.
        kind: String,
        /// The offered key's fingerprint.
        fingerprint: String,
        /// The file and line of the known key.
        known: String,
    },
    /// The server's key was revoked.
    #[error("the {kind} key of {host} is revoked: {fingerprint}")]
    HostKeyRevoked {
        /// The host.
        host: String,
        /// The key's type.
        kind: String,
        /// The key's fingerprint.
        fingerprint: String,
        /// The file and line that revokes it.
        known: String,
    },
    /// The host is known by a certificate authority, which this transport does not check.
    #[error(
        "the key of {host} is vouched for by a certificate authority, which is not supported here"
    )]
    HostKeyAuthority {
        /// The host.
        host: String,
        /// The file and line of the authority.
        known: String,
    },
    /// A known_hosts file could not be read or written.
    #[error("cannot use {}", path.display())]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server accepted none of the user's keys.
    #[error("{host} lets {user} in with none of the keys tried: {}", listed(tried))]
    Auth {
        /// The host.
        host: String,
        /// The user.
        user: String,
        /// The keys, and what came of each.
        tried: Vec<String>,
    },
    /// The socket is there, but the SSH server does not forward to it, and there is no `vela` command to join it.
    #[error("the SSH server of {host} does not forward to {}, and has no `vela` command to join it", socket.display())]
    ForwardingOff {
        /// The host.
        host: String,
        /// The socket.
        socket: PathBuf,
    },
    /// There is no daemon, and no `vela` command.
    #[error("vela is not installed on {host}")]
    NoVela {
        /// The host.
        host: String,
    },
    /// The remote command that joins the socket did something unexpected.
    #[error("`{command}` failed on {host}: {detail}")]
    Join {
        /// The host.
        host: String,
        /// The command.
        command: String,
        /// Its exit status and what it wrote.
        detail: String,
    },
    /// The system's `ssh` did not get through.
    #[error("`ssh` did not reach {host}: {detail}")]
    Ssh {
        /// The host.
        host: String,
        /// What `ssh` wrote.
        detail: String,
    },
    /// The SSH connection broke.
    #[error("the SSH connection to {host} was lost")]
    Lost {
        /// The host.
        host: String,
        /// Why.
        source: SshError,
    },
    /// The thread that owns the SSH connection could not be started, or its sockets.
    #[error("cannot prepare the connection to {host}")]
    Local {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
}

impl TransportError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        use TransportError as E;
        Some(match self {
            E::NoDaemon { address, .. } if address == "local" => {
                "start one with `vela serve`, or name a server with `--server`".into()
            }
            E::NoDaemon { .. } => {
                "start it on the server with `systemctl start vela`, or install it with `vela setup`".into()
            }
            E::Denied { .. } => {
                "add the user to the group of the socket (`usermod -aG vela <user>`) and log in again, or allow it `sudo -n vela join`".into()
            }
            E::SocketName { .. } => "use a path of letters, digits and `/._-+@:,`".into(),
            E::Config { .. } => "see `ssh -G <host>`".into(),
            E::Resolve { host, .. } | E::Connect { host, .. } => {
                format!("check that `ssh {host}` works")
            }
            E::Ssh { host, .. } => format!("check that `ssh {host}` works without asking anything"),
            E::Proxy { .. } | E::Handshake { .. } => {
                "check that `ssh` reaches the server; VELA_SSH=system makes vela use it".into()
            }
            E::HostKeyUnknown { host, .. } => {
                format!("compare the fingerprint and accept it with `ssh {host}`")
            }
            E::HostKeyChanged { known, .. } => {
                format!("if the server was reinstalled, remove {known} after comparing the fingerprint")
            }
            E::HostKeyRevoked { known, .. } => format!("it is revoked by {known}"),
            E::HostKeyAuthority { .. } => "set VELA_SSH=system to let `ssh` check it".into(),
            E::Auth { user, host, .. } => {
                format!("see whether `ssh {user}@{host}` works; `ssh-add` loads a key, VELA_SSH=system uses `ssh` itself")
            }
            E::ForwardingOff { .. } => {
                "set `AllowStreamLocalForwarding yes` in the server's sshd_config, or install vela in its PATH".into()
            }
            E::NoVela { .. } => "install vela on the server and run `vela setup` there".into(),
            E::Program { program, .. } if program == "ssh" => "install OpenSSH's client".into(),
            E::Socket { .. }
            | E::Program { .. }
            | E::KnownHosts { .. }
            | E::Join { .. }
            | E::Lost { .. }
            | E::Local { .. } => return None,
        })
    }

    /// Whether the same attempt may succeed a moment later, as while a daemon restarts or a network changes.
    pub fn is_transient(&self) -> bool {
        use TransportError as E;
        if let E::Ssh { detail, .. } = self {
            let refused = ["verification failed", "Permission denied"];
            return !refused.iter().any(|words| detail.contains(words));
        }
        matches!(
            self,
            E::NoDaemon { .. }
                | E::Socket { .. }
                | E::Resolve { .. }
                | E::Connect { .. }
                | E::Proxy { .. }
                | E::Handshake { .. }
                | E::Lost { .. }
        )
    }
}

/// What libssh2 says went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SshError {
    /// libssh2's number of the error.
    pub code: i32,
    /// Its text.
    pub message: String,
}

impl From<ssh2::Error> for SshError {
    fn from(error: ssh2::Error) -> SshError {
        let (ssh2::ErrorCode::Session(code) | ssh2::ErrorCode::SFTP(code)) = error.code();
        SshError {
            code,
            message: error.message().to_owned(),
        }
    }
}

fn listed(tried: &[String]) -> String {
    match tried.is_empty() {
        true => "there were none".into(),
        false => tried.join(", "),
    }
}
