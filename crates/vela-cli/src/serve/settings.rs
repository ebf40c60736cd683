use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vela_deploy::{Dirs, OpenError, Stack, StateError, SystemUsers};
use vela_manifest::{ServerConfig, ServicesSection, TlsSection};
use vela_proxy::{ParkLimits, Proxy, ProxyConfig};
use vela_supervisor::{Ports, ShimCommand, ShimSupervisor, SupervisorError};

use super::https::Https;
use super::listeners::{PortKey, Wanted, addresses};
use super::proxy_config::{park_limits, proxy_config, stop_time};
use crate::accounts;
use crate::failure::Failure;

/// The group that may use the socket of a daemon that runs as root.
const GROUP: &str = "vela";

/// `server.toml` with its gaps filled in, by who the daemon runs as.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) group: Option<String>,
    /// The HTTP ones, then the HTTPS ones, if there are any.
    pub(super) addresses: Vec<Wanted>,
    pub(super) proxy: ProxyConfig,
    /// How long requests in flight may take to end when the daemon stops.
    pub(super) stop: Duration,
    /// Where metrics are served.
    pub(super) metrics: Option<SocketAddr>,
    /// `[tls]`, where HTTPS is served.
    pub(super) tls: Option<TlsSection>,
    /// What the configuration asks for in vain, to be logged.
    pub(super) ignored: Vec<String>,
    isolate: bool,
    parking: ParkLimits,
    services: ServicesSection,
    ports: std::ops::RangeInclusive<u16>,
}

impl Settings {
    /// The configuration that was named, else the usual one if it is there, else none.
    pub(super) fn load(named: Option<&Path>) -> Result<Settings, Failure> {
        let root = rustix::process::geteuid().is_root();
        let usual = || match root {
            true => Some(PathBuf::from("/etc/vela/server.toml")),
            false => user_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("server.toml")),
        };
        let file = match named {
            Some(file) => Some(file.to_owned()),
            None => usual().filter(|file| file.exists()),
        };
        let config = match &file {
            Some(file) => ServerConfig::load(file)?,
            None => ServerConfig::default(),
        };
        Settings::new(config, root)
    }

    fn new(config: ServerConfig, root: bool) -> Result<Settings, Failure> {
        let ignored = config
            .not_yet_supported()
            .iter()
            .map(|key| format!("server.toml: {key}"))
            .collect();
        if config.apps.isolate == Some(true) && !root {
            return Err(Failure::new(
                "`isolate = true` needs root: only root can run apps as other users",
            )
            .with_hint("remove it from [apps] of server.toml, or run the daemon as root"));
        }
        let data_dir = match (&config.data_dir, root) {
            (Some(dir), _) => dir.clone(),
            (None, true) => PathBuf::from("/var/vela"),
            (None, false) => user_dir("XDG_STATE_HOME", ".local/state").ok_or_else(|| {
                Failure::new("there is no HOME to keep the daemon's state in")
                    .with_hint("set `data_dir` in server.toml")
            })?,
        };
        let port = |key: PortKey, named: Option<u16>| {
            let usual = match (root, key) {
                (true, PortKey::Http) => 80,
                (true, PortKey::Https) => 443,
                (false, key) => key.unprivileged(),
            };
            let addresses = addresses(&config.proxy.bind, named.unwrap_or(usual));
            addresses
                .into_iter()
                .map(move |address| Wanted { address, key })
        };
        let mut wanted: Vec<Wanted> = port(PortKey::Http, config.proxy.http_port).collect();
        // Who asks for neither may not be able to bind it.
        let is_secure = config.tls.is_some() || config.proxy.https_port.is_some();
        if is_secure {
            wanted.extend(port(PortKey::Https, config.proxy.https_port));
        }
        Ok(Settings {
            socket: config.socket.unwrap_or_else(vela_control::default_socket),
            // Without it, as before `vela setup`, the socket is root's alone.
            group: (root && accounts::group_exists(GROUP)).then(|| GROUP.to_owned()),
            addresses: wanted,
            proxy: proxy_config(&config.proxy)?,
            stop: stop_time(&config.proxy),
            parking: park_limits(&config.proxy),
            metrics: config.proxy.metrics,
            tls: is_secure.then(|| config.tls.unwrap_or_default()),
            ignored,
            isolate: config.apps.isolate.unwrap_or(root),
            services: config.services,
            ports: config.apps.ports(),
            data_dir,
        })
    }

    /// Before anything else makes it for itself alone: an app's user has to pass through it.
    pub(super) fn make_data_dir(&self) -> Result<(), OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.data_dir)
            .map_err(|source| {
                let path = self.data_dir.clone();
                OpenError::State(StateError::Io { path, source })
            })
    }

    /// What the engine works with. Finds the processes that outlived the last daemon.
    pub(super) async fn stack(
        &self,
        proxy: Proxy,
        https: Option<&Https>,
    ) -> Result<Stack, OpenError> {
        let dirs = Dirs::new(&self.data_dir);
        let supervisor = ShimSupervisor::open(dirs.run(), ShimCommand::this_program(["shim"]))
            .await
            .map_err(|error| match error {
                SupervisorError::RunDirInUse { .. } => self.locked(&dirs),
                error => OpenError::Adopt(error),
            })?;
        let ports = Ports::new(self.ports.clone());
        let stack = Stack::local(dirs, Arc::new(supervisor), ports, proxy)
            .with_services(&self.services)
            .expect("the parser of server.toml accepts nothing else");
        let stack = Stack {
            parking: self.parking,
            certifier: https.and_then(Https::certifier),
            certificates: https.map(Https::certificates),
            ..stack
        };
        #[cfg(feature = "failpoints")]
        let stack = Stack {
            failpoints: vela_deploy::failpoint::from_env(),
            ..stack
        };
        Ok(match self.isolate {
            true => Stack {
                users: Arc::new(SystemUsers),
                ..stack
            },
            false => stack,
        })
    }

    /// The same error as the engine's own: the other daemon holds its lock too, and wrote its pid there.
    fn locked(&self, dirs: &Dirs) -> OpenError {
        OpenError::Locked {
            data_dir: self.data_dir.clone(),
            pid: std::fs::read_to_string(dirs.lock())
                .ok()
                .and_then(|text| text.trim().parse().ok()),
        }
    }
}

/// Vela's directory in one of the user's.
fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(below_home)))
        .map(|dir| dir.join("vela"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_the_daemon_runs_as_fills_the_gaps() {
        let root = Settings::new(ServerConfig::default(), true).unwrap();
        assert_eq!(root.data_dir, Path::new("/var/vela"));
        assert_eq!(root.addresses[0].address.port(), 80);
        assert_eq!((root.addresses.len(), root.tls), (1, None));
        assert!(root.isolate);
        let user = Settings::new(ServerConfig::default(), false).unwrap();
        assert!(user.data_dir.ends_with("vela"));
        assert_eq!(user.addresses[0].address.port(), 8080);
        assert!(!user.isolate);
        assert_eq!(user.group, None);
    }

    #[test]
    fn the_file_wins() {
        let text = "data_dir = \"/srv/vela\"\nsocket = \"/srv/vela.sock\"\n[proxy]\nbind = \"127.0.0.1\"\nhttp_port = 0\n[apps]\nisolate = false\n";
        let config = ServerConfig::parse("server.toml", text).unwrap();
        let settings = Settings::new(config, true).unwrap();
        assert_eq!(settings.data_dir, Path::new("/srv/vela"));
        assert_eq!(settings.socket, Path::new("/srv/vela.sock"));
        let local = "127.0.0.1:0".parse().unwrap();
        assert_eq!(settings.addresses.len(), 1);
        assert_eq!(settings.addresses[0].address, local);
        assert!(!settings.isolate);
    }

    #[test]
    fn https_is_served_to_who_asks_for_it() {
        for (text, port) in [
            ("[tls]\nacme_email = \"ops@example.com\"\n", 443),
            ("[proxy]\nhttps_port = 4430\n", 4430),
        ] {
            let config = ServerConfig::parse("server.toml", text).unwrap();
            let settings = Settings::new(config, true).unwrap();
            let https: Vec<_> = settings
                .addresses
                .iter()
                .filter(|wanted| wanted.key == PortKey::Https)
                .map(|wanted| wanted.address.port())
                .collect();
            assert_eq!(https, [port]);
            assert!(settings.tls.is_some_and(|tls| tls.redirect));
        }
    }
}
