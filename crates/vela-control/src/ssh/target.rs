use std::fmt;
use std::path::{Path, PathBuf};

use crate::address::{ServerAddress, is_plain_path};
use crate::socket_path::SYSTEM_SOCKET;
use crate::transport::TransportError;

/// A daemon behind an SSH server: the SSH form of a [`ServerAddress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// The user to log in as; without one, SSH's configuration decides.
    pub user: Option<String>,
    /// A host name, an address, or an alias of SSH's configuration.
    pub host: String,
    /// The port; without one, SSH's configuration decides.
    pub port: Option<u16>,
    /// The daemon's socket on that machine; without one, its default.
    pub socket: Option<PathBuf>,
}

impl SshTarget {
    /// The socket that forwarding is asked for.
    pub(super) fn socket(&self) -> Result<&str, TransportError> {
        match &self.socket {
            None => Ok(SYSTEM_SOCKET),
            Some(socket) => plain(socket),
        }
    }

    /// The command that joins the socket where there is no forwarding. The remote shell gets words without any syntax.
    pub(super) fn join_command(
        &self,
        program: &Path,
        sudo: bool,
    ) -> Result<String, TransportError> {
        let program = match program == Path::new("vela") {
            true => "vela",
            false => plain(program)?,
        };
        let sudo = if sudo { "sudo -n " } else { "" };
        match &self.socket {
            None => Ok(format!("{sudo}{program} join")),
            Some(socket) => Ok(format!("{sudo}{program} join --socket {}", plain(socket)?)),
        }
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SshTarget {
            user,
            host,
            port,
            socket,
        } = self.clone();
        let address = ServerAddress::Ssh {
            user,
            host,
            port,
            socket,
        };
        address.fmt(f)
    }
}

fn plain(path: &Path) -> Result<&str, TransportError> {
    path.to_str()
        .filter(|_| is_plain_path(path))
        .ok_or_else(|| TransportError::SocketName {
            socket: path.to_owned(),
        })
}
