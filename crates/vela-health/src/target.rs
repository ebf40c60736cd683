use std::net::SocketAddr;

/// What a probe looks at: the address of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where the instance listens.
    pub addr: SocketAddr,
}

impl Target {
    /// The target at `addr`.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// The address a probe connects to, given the port that it was told to use instead.
    pub(crate) fn at_port(&self, port: Option<u16>) -> SocketAddr {
        let mut addr = self.addr;
        if let Some(port) = port {
            addr.set_port(port);
        }
        addr
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}
