use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Address;

/// What a probe looks at: where one instance listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Target {
    /// Where the instance listens.
    pub addr: Address,
    /// The user that must listen there, of a Unix socket: see [`Target::owned_by`].
    pub owner: Option<u32>,
}

impl Target {
    /// The target at `addr`.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr: Address::Tcp(addr),
            owner: None,
        }
    }

    /// The target at a Unix socket, whoever listens there.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self {
            addr: Address::Unix(path.into()),
            owner: None,
        }
    }

    /// The same, but what listens on its Unix socket must be this user's: who may write where the socket is could make
    /// a link there instead, to the socket of another program. Means nothing for TCP.
    #[must_use]
    pub fn owned_by(self, uid: u32) -> Self {
        Self {
            owner: Some(uid),
            ..self
        }
    }

    /// What a probe connects to, given the port that it was told to use instead.
    pub(crate) fn at_port(&self, port: Option<u16>) -> Self {
        match port {
            Some(port) => Self::new(self.addr.at_port(port)),
            None => self.clone(),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}
