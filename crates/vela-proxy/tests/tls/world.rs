//! A proxy with TLS, an app behind it, and an authority that signs certificates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;
use vela_proxy::tls::{Certificate, CertificateStore, Origin, Tls, TlsSettings, TlsStats};
use vela_proxy::{Listener, Proxy, ProxyConfig, RouteSpec, Router, Serving, Upstream};

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) tls: Tls,
    pub(crate) store: Arc<CertificateStore>,
    pub(crate) authority: Authority,
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) serving: Serving,
}

impl World {
    /// `a.test` has an app and a certificate, `b.test` an app alone.
    pub(crate) async fn start() -> World {
        World::with(TlsSettings::default(), |listener| listener).await
    }

    pub(crate) async fn with(
        settings: TlsSettings,
        https: impl FnOnce(Listener) -> Listener,
    ) -> World {
        World::configured(ProxyConfig::default(), settings, https, |http| http).await
    }

    pub(crate) async fn configured(
        config: ProxyConfig,
        settings: TlsSettings,
        https: impl FnOnce(Listener) -> Listener,
        http: impl FnOnce(Listener) -> Listener,
    ) -> World {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("The tests' authority");
        std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
        let store = Arc::new(CertificateStore::new().unwrap());
        store.put(Origin::Static, "a", authority.certificate(&["a.test"]));
        let tls = Tls::new(Arc::clone(&store), settings).unwrap();
        let proxy = Proxy::new(ProxyConfig {
            workers: NonZeroUsize::new(2).unwrap(),
            ..config
        });
        let app = app();
        for host in ["a.test", "b.test"] {
            let hosts = vec![host.parse().unwrap()];
            let spec = RouteSpec::new(host, hosts, vec![Upstream::new(app)]);
            proxy.apply(spec).await.unwrap();
        }
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (secure, plain) = (bind(), bind());
        let (https_addr, http_addr) = (secure.local_addr().unwrap(), plain.local_addr().unwrap());
        let serving = proxy
            .serve([
                https(Listener::https(secure, tls.clone())),
                http(Listener::http(plain).redirecting(tls.clone(), https_addr.port())),
            ])
            .unwrap();
        World {
            dir,
            tls,
            store,
            authority,
            https: https_addr,
            http: http_addr,
            serving,
        }
    }

    /// Waits for what the proxy counts once it has told the client.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(TlsStats) -> bool) {
        let waiting = async {
            while !holds(self.tls.stats()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .is_err()
        {
            panic!("not reached: {what}: {:?}", self.tls.stats());
        }
    }

    /// A file of this test's own.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// curl, trusting the tests' authority, with both ports where the hosts say that they are.
    pub(crate) async fn curl(&self, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.dir.path().join("ca.pem"));
        for (port, to) in [(443, self.https), (80, self.http)] {
            curl.args(["--connect-to", &format!(":{port}:{to}")])
                .arg("--connect-to")
                .arg(format!(":{}:{to}", to.port()));
        }
        curl.args(arguments);
        run(curl, "").await
    }

    /// `openssl s_client`, which sends a request and shows the session.
    pub(crate) async fn openssl(&self, host: &str, arguments: &[&str]) -> String {
        let mut openssl = Command::new("openssl");
        let named: &[&str] = match arguments.contains(&"-noservername") {
            true => &[],
            false => &["-servername", host],
        };
        openssl
            .args(["s_client", "-ign_eof"])
            .args(named)
            .arg("-connect")
            .arg(self.https.to_string())
            .arg("-CAfile")
            .arg(self.dir.path().join("ca.pem"))
            .args(arguments);
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let output = run(openssl, &request).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }
}

pub(crate) async fn run(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    let run = move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may have ended already.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// What curl printed, once it is sure that it succeeded.
pub(crate) fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// The chain and the key, as PEM.
    pub(crate) fn pair(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let day = Duration::from_secs(86_400);
        params.not_before = (SystemTime::now() - day).into();
        params.not_after = (SystemTime::now() + 30 * day).into();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn certificate(&self, names: &[&str]) -> Certificate {
        let (chain, key) = self.pair(names);
        Certificate::from_pem(chain.as_bytes(), key.as_bytes(), SystemTime::now()).unwrap()
    }
}

/// Answers with the head of the request and the length of its body; `/tunnel` by an echo after
/// `101`, `/large` with 8 MiB.
fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(|| respond(socket.unwrap()));
        }
    });
    addr
}

pub(crate) const LARGE: usize = 8 * 1024 * 1024;

fn respond(mut socket: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    if head.starts_with("GET /tunnel ") {
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        socket.write_all(switch.as_bytes()).unwrap();
        let mut reading = socket.try_clone().unwrap();
        std::io::copy(&mut reading, &mut socket).ok();
        return;
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<u64>().unwrap())
    });
    let body = (&mut socket).take(length.unwrap_or(0));
    let received = std::io::copy(&mut { body }, &mut std::io::sink()).unwrap();
    let body = match head.starts_with("GET /large ") {
        true => "x".repeat(LARGE),
        false => format!("{head}body: {received}\n"),
    };
    let hsts = match head.starts_with("GET /own-hsts ") {
        true => "strict-transport-security: max-age=1\r\n",
        false => "",
    };
    let status = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{hsts}content-length:");
    // The client may have gone.
    write!(socket, "{status} {}\r\n\r\n{body}", body.len()).ok();
}
