use async_trait::async_trait;

use crate::connect::connect;
use crate::{Probe, ProbeError, Target};

/// Healthy when the port, or Unix socket, accepts a connection, which is closed at once.
///
/// The kernel accepts on behalf of any program that listens, so this proves that the program got
/// as far as `listen`, and no more.
#[derive(Debug, Clone, Default)]
pub struct TcpProbe {
    port: Option<u16>,
}

impl TcpProbe {
    /// A probe of the target's own port.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Probes this port instead of the target's; one of 127.0.0.1 if that is a Unix socket.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }
}

#[async_trait]
impl Probe for TcpProbe {
    async fn check(&self, target: &Target) -> Result<(), ProbeError> {
        connect(&target.at_port(self.port)).await.map(drop)
    }
}
