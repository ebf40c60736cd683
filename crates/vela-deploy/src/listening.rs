//! Where the instances of a launch listen, in the words of those who ask them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use vela_health::Target;
use vela_manifest::Listen;
use vela_proxy::{Address, Upstream};
use vela_supervisor::{PortOwner, listener_of, unix_listener_of};

use crate::launch::{Launch, Running};

impl Launch {
    /// Where the instance listens, as its manifest has it.
    pub(crate) fn address(&self, running: &Running) -> Address {
        let port = running.lease.port();
        match self.manifest.app.listen {
            Listen::Ipv4 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(),
            Listen::Ipv6 => SocketAddr::from((Ipv6Addr::LOCALHOST, port)).into(),
            Listen::Unix => self.dirs.socket(port).into(),
        }
    }

    /// The same for people, who know what a port is.
    pub(crate) fn place(&self, running: &Running) -> String {
        match self.address(running) {
            Address::Tcp(addr) => format!("port {}", addr.port()),
            socket @ Address::Unix(_) => socket.to_string(),
        }
    }

    /// The same for the router.
    pub(crate) fn upstream(&self, running: &Running) -> Upstream {
        let upstream = Upstream::new(self.address(running)).tagged(running.instance.id.as_str());
        match &self.user {
            // The directory is the app's: without this it could lead the proxy to sockets of others.
            Some(user) => upstream.owned_by(user.uid),
            None => upstream,
        }
    }

    /// The same for a probe.
    pub(crate) fn target(&self, running: &Running) -> Target {
        let target = match self.address(running) {
            Address::Tcp(addr) => Target::new(addr),
            Address::Unix(path) => Target::unix(path),
        };
        match &self.user {
            Some(user) => target.owned_by(user.uid),
            None => target,
        }
    }

    /// The Unix socket that goes with a port, if the app listens on one.
    pub(crate) fn socket(&self, port: u16) -> Option<PathBuf> {
        (self.manifest.app.listen == Listen::Unix).then(|| self.dirs.socket(port))
    }

    /// Who really listens there.
    pub(crate) async fn port_owner(&self, running: &Running) -> PortOwner {
        let address = self.address(running);
        let owner = match &address {
            Address::Tcp(addr) => listener_of(*addr, &running.instance).await,
            Address::Unix(path) => unix_listener_of(path, &running.instance).await,
        };
        owner.unwrap_or_else(|error| {
            tracing::warn!(app = %self.app, %address, %error, "could not tell who listens on the port");
            PortOwner::Nobody
        })
    }
}
