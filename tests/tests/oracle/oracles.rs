use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// nginx and HAProxy, each with a socket in the directory for each of its backends. They end with this value.
pub(crate) struct Oracles {
    dir: tempfile::TempDir,
    _children: [Child; 2],
}

impl Oracles {
    pub(crate) async fn start(nginx: &[SocketAddr], haproxy: &[SocketAddr]) -> Oracles {
        let dir = tempfile::tempdir().unwrap();
        let mut servers = String::new();
        for (lane, backend) in nginx.iter().enumerate() {
            let socket = nginx_socket(dir.path(), lane);
            writeln!(
                servers,
                "    server {{ listen unix:{}; location / {{ proxy_pass http://{backend}; }} }}",
                socket.display()
            )
            .unwrap();
        }
        let config = include_str!("nginx.conf")
            .replace("@DIR@", &dir.path().display().to_string())
            .replace("@SERVERS@", &servers);
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let nginx_child = spawn("nginx", &["-c"], &path, dir.path());

        let mut config = include_str!("haproxy.cfg").to_owned();
        for (lane, backend) in haproxy.iter().enumerate() {
            let socket = haproxy_socket(dir.path(), lane);
            writeln!(
                config,
                "listen lane{lane}\n    bind unix@{}\n    server backend {backend}",
                socket.display()
            )
            .unwrap();
        }
        let path = dir.path().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let haproxy_child = spawn("haproxy", &["-db", "-f"], &path, dir.path());

        let oracles = Oracles {
            dir,
            _children: [nginx_child, haproxy_child],
        };
        for socket in [
            oracles.nginx(nginx.len() - 1),
            oracles.haproxy(haproxy.len() - 1),
        ] {
            oracles.wait_for(&socket).await;
        }
        oracles
    }

    /// Where nginx listens for the backend of that number.
    pub(crate) fn nginx(&self, lane: usize) -> PathBuf {
        nginx_socket(self.dir.path(), lane)
    }

    /// Where HAProxy listens for the backend of that number.
    pub(crate) fn haproxy(&self, lane: usize) -> PathBuf {
        haproxy_socket(self.dir.path(), lane)
    }

    async fn wait_for(&self, socket: &Path) {
        let begun = Instant::now();
        while let Err(error) = UnixStream::connect(socket).await {
            if begun.elapsed() > Duration::from_secs(20) {
                let said = ["nginx", "haproxy"].map(|name| {
                    let path = self.dir.path().join(format!("{name}.out"));
                    std::fs::read_to_string(path).unwrap_or_default()
                });
                panic!("{}: {error}: {said:?}", socket.display());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn nginx_socket(dir: &Path, lane: usize) -> PathBuf {
    dir.join(format!("nginx-{lane}.sock"))
}

fn haproxy_socket(dir: &Path, lane: usize) -> PathBuf {
    dir.join(format!("haproxy-{lane}.sock"))
}

fn spawn(program: &str, args: &[&str], config: &Path, dir: &Path) -> Child {
    let out = std::fs::File::create(dir.join(format!("{program}.out"))).unwrap();
    Command::new(format!("/usr/sbin/{program}"))
        .args(args)
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}
