//! pebble, and its companion that answers DNS queries.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

pub(crate) struct Pebble {
    dir: TempDir,
    /// Gone while it is down.
    server: Option<Child>,
    dns: Child,
    pub(crate) ports: Ports,
}

/// Chosen anew for each test. The proxy listens where pebble looks.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    acme: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
    pub(crate) http: u16,
    pub(crate) https: u16,
}

impl Pebble {
    pub(crate) fn start() -> Pebble {
        Pebble::issuing_for(5 * 365 * 86_400)
    }

    /// Its certificates are valid for that many seconds.
    pub(crate) fn issuing_for(seconds: u64) -> Pebble {
        Pebble::with(&format!(r#""certificateValidityPeriod": {seconds}"#))
    }

    /// Only customers get an account: `kid-1`, by a key that is given in base64url.
    pub(crate) fn for_customers(key: &str) -> Pebble {
        Pebble::with(&format!(
            r#""externalAccountBindingRequired": true, "externalAccountMACKeys": {{"kid-1": "{key}"}}"#
        ))
    }

    fn with(more: &str) -> Pebble {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports::choose();
        certificates(dir.path());
        let config = format!(
            r#"{{"pebble": {{
                "listenAddress": "127.0.0.1:{}", "managementListenAddress": "127.0.0.1:{}",
                "certificate": "{2}/cert.pem", "privateKey": "{2}/key.pem",
                "httpPort": {3}, "tlsPort": {4}, {more}
            }}}}"#,
            ports.acme,
            ports.management,
            dir.path().display(),
            ports.http,
            ports.https
        );
        std::fs::write(dir.path().join("pebble.json"), config).unwrap();
        let dns = Command::new("pebble-challtestsrv")
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &format!("127.0.0.1:{}", ports.dns)])
            .args([
                "-management",
                &format!("127.0.0.1:{}", ports.dns_management),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pebble = Pebble {
            dir,
            server: None,
            dns,
            ports,
        };
        pebble.up();
        await_port(ports.dns_management);
        pebble
    }

    /// Starts it, if it is down. It has forgotten everything then.
    pub(crate) fn up(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let server = Command::new("pebble")
            .arg("-config")
            .arg(self.dir.path().join("pebble.json"))
            .args(["-dnsserver", &format!("127.0.0.1:{}", self.ports.dns)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "5")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        await_port(self.ports.acme);
    }

    pub(crate) fn down(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.acme)
    }

    /// What its own certificate is from.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Where its own certificate is, with its key.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes what it signs with into a file of this directory.
    pub(crate) fn roots(&self, dir: &Path) -> PathBuf {
        let url = format!("https://localhost:{}/roots/0", self.ports.management);
        let file = dir.join("pebble-root.pem");
        let done = Command::new("curl")
            .args(["-sSfk", "-o"])
            .arg(&file)
            .arg(url)
            .status();
        assert!(done.unwrap().success());
        file
    }

    /// A hook that has the companion answer TXT queries, and notes what it was asked to do.
    pub(crate) fn dns_hook(&self) -> String {
        let url = format!("http://127.0.0.1:{}", self.ports.dns_management);
        format!(
            r#"set -eu
echo "$VELA_ACME_ACTION $VELA_ACME_NAME" >> {}
case $VELA_ACME_ACTION in set) do=set-txt ;; *) do=clear-txt ;; esac
curl -sSf -d "{{\"host\": \"$VELA_ACME_NAME.\", \"value\": \"$VELA_ACME_VALUE\"}}" {url}/$do"#,
            self.dns_log().display()
        )
    }

    pub(crate) fn dns_log(&self) -> PathBuf {
        self.dir.path().join("dns")
    }

    /// Lets a name lead to nowhere, or to the proxy again.
    pub(crate) fn mislead(&self, host: &str, away: bool) {
        let address = if away { "127.0.0.9" } else { "127.0.0.1" };
        let body = format!(r#"{{"host": "{host}", "addresses": ["{address}"]}}"#);
        let url = format!("http://127.0.0.1:{}/add-a", self.ports.dns_management);
        let clear = url.replace("add-a", "clear-a");
        for url in [clear, url] {
            let done = Command::new("curl")
                .args(["-sSf", "-d", &body, &url])
                .status();
            assert!(done.unwrap().success());
        }
    }

    /// How many lines of its log have this text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.down();
        self.dns.kill().ok();
        self.dns.wait().ok();
    }
}

impl Ports {
    /// Free now, and below the ports that the system gives to connections.
    fn choose() -> Ports {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let own = u16::try_from(std::process::id() % 100).unwrap() * 100;
        let is_free = |port: &u16| {
            let addr = (Ipv4Addr::LOCALHOST, *port);
            TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok()
        };
        let mut ports = std::iter::repeat_with(|| {
            20_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000
        })
        .filter(is_free);
        let mut port = || ports.next().unwrap();
        Ports {
            acme: port(),
            management: port(),
            dns: port(),
            dns_management: port(),
            http: port(),
            https: port(),
        }
    }
}

fn await_port(port: u16) {
    let until = Instant::now() + Duration::from_secs(20);
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < until, "nothing listens on {addr}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// pebble ships no certificate for its own HTTPS.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another name than the other's, or it looks self-signed.
    let name = "The authority of pebble itself";
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let own = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), own.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}
