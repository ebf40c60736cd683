use std::sync::Arc;

use crate::address::ServerAddress;
use crate::transport::Transport;
use crate::unix::UnixTransport;

mod ask;
mod auth;
mod buffer;
mod config;
pub(crate) mod joining;
mod key_file;
pub(crate) mod known_hosts;
mod link;
mod nonblocking;
mod options;
mod pump;
mod session;
mod system;
mod target;
mod transport;
mod trust;
mod wire;

pub use ask::{Ask, HostKey, NeverAsk};
pub use options::SshOptions;
pub use system::SystemSshTransport;
pub use target::SshTarget;
pub use transport::Ssh2Transport;

impl ServerAddress {
    /// The transport to this address. `options` and `ask` matter to SSH alone.
    ///
    /// SSH is spoken by this process, or by the system's `ssh` if the environment says `VELA_SSH=system`: for keys and
    /// methods that libssh2 does not know.
    pub fn transport(&self, options: SshOptions, ask: Arc<dyn Ask>) -> Arc<dyn Transport> {
        let target = match self.clone() {
            ServerAddress::Local => return Arc::new(UnixTransport::local()),
            ServerAddress::Unix(socket) => return Arc::new(UnixTransport::new(socket)),
            ServerAddress::Ssh {
                user,
                host,
                port,
                socket,
            } => SshTarget {
                user,
                host,
                port,
                socket,
            },
        };
        match std::env::var_os("VELA_SSH").is_some_and(|ssh| ssh == "system") {
            true => Arc::new(SystemSshTransport::new(target, options)),
            false => Arc::new(Ssh2Transport::new(target, options, ask)),
        }
    }
}
