use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{ProcessTree, Result, TlsPair};

/// What a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// No proxy: the backend itself.
    Direct,
    /// Debian's nginx.
    Nginx,
    /// Debian's HAProxy.
    Haproxy,
    /// Debian's Caddy.
    Caddy,
    /// `vela-proxy`, in a program that takes `serve LISTEN UPSTREAM`.
    Vela(PathBuf),
    /// The same, while its route is switched ten times a second: it takes `--switch` too.
    VelaSwitched(PathBuf),
}

/// A proxy that runs, in front of the backend.
#[derive(Debug)]
pub struct Contender {
    /// What the tables call it.
    pub name: String,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it speaks TLS; none for the backend.
    pub tls: Option<SocketAddr>,
    child: Option<Child>,
}

impl Contender {
    /// Starts it, with its files in `dir`, and waits until it listens.
    pub fn start(
        name: &str,
        kind: &Kind,
        upstream: SocketAddr,
        dir: &Path,
        pair: &TlsPair,
    ) -> Result<Contender> {
        let (addr, tls) = (free_address()?, free_address()?);
        let config = |file: &str, template: &str| -> Result<PathBuf> {
            let cores = std::thread::available_parallelism()?;
            let text = template
                .replace("@LISTEN@", &addr.to_string())
                .replace("@TLS@", &tls.to_string())
                .replace("@TLS_IP@", &tls.ip().to_string())
                .replace("@TLS_PORT@", &tls.port().to_string())
                .replace("@CERTIFICATE@", &pair.certificate.display().to_string())
                .replace("@KEY@", &pair.key.display().to_string())
                .replace("@BOTH@", &pair.both.display().to_string())
                .replace("@UPSTREAM@", &upstream.to_string())
                .replace("@CORES@", &cores.to_string())
                .replace("@DIR@", &dir.display().to_string());
            let path = dir.join(file);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let mut command = match kind {
            Kind::Direct => {
                return Ok(Contender {
                    name: name.to_owned(),
                    addr: upstream,
                    tls: None,
                    child: None,
                });
            }
            Kind::Nginx => {
                let mut command = Command::new("/usr/sbin/nginx");
                command
                    .arg("-c")
                    .arg(config("nginx.conf", include_str!("../proxy/nginx.conf"))?);
                command
            }
            Kind::Haproxy => {
                let mut command = Command::new("/usr/sbin/haproxy");
                command
                    .arg("-db")
                    .arg("-f")
                    .arg(config("haproxy.cfg", include_str!("../proxy/haproxy.cfg"))?);
                command
            }
            Kind::Caddy => {
                let mut command = Command::new("caddy");
                command
                    .args(["run", "--adapter", "caddyfile", "--config"])
                    .arg(config("Caddyfile", include_str!("../proxy/Caddyfile"))?);
                command
            }
            Kind::Vela(program) | Kind::VelaSwitched(program) => {
                let mut command = Command::new(program);
                command.args(["serve", &addr.to_string(), &upstream.to_string()]);
                command.arg("--tls").arg(tls.to_string());
                command.arg("--certificate").arg(&pair.certificate);
                command.arg("--key").arg(&pair.key);
                if let Kind::VelaSwitched(_) = kind {
                    command.arg("--switch");
                }
                command
            }
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let contender = Contender {
            name: name.to_owned(),
            addr,
            tls: Some(tls),
            child: Some(child),
        };
        wait_for(addr)?;
        wait_for(tls)?;
        Ok(contender)
    }

    /// Its processes; none when the backend is asked itself.
    pub fn processes(&self) -> Option<ProcessTree> {
        self.child.as_ref().map(|child| ProcessTree::of(child.id()))
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let asked = rustix::process::kill_process(
                rustix::process::Pid::from_child(child),
                rustix::process::Signal::TERM,
            );
            // Gone already is gone too.
            asked.ok();
            child.wait().ok();
        }
    }
}

/// An address of this machine that nobody listens at.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until somebody listens.
pub fn wait_for(addr: SocketAddr) -> Result<()> {
    let begin = Instant::now();
    while TcpStream::connect(addr).is_err() {
        if begin.elapsed() > Duration::from_secs(10) {
            return Err(format!("nobody listens at {addr}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
