use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use vela_proxy::tls::{Certificate, CertificateStore, Origin, Tls, TlsSettings};
use vela_proxy::{Listener, Proxy, ProxyConfig, Replaced, RouteSpec, Router, Serving, Upstream};

/// Vela's proxy with TLS, for `localhost`.
pub(crate) struct Front {
    pub(crate) proxy: Proxy,
    pub(crate) tls: Tls,
    addr: SocketAddr,
    dir: TempDir,
    _serving: Serving,
}

impl Front {
    pub(crate) async fn start(app: SocketAddr) -> Front {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(dir.path().join("cert.pem"), &pem).unwrap();
        let key = key.serialize_pem();
        let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes(), SystemTime::now());
        let store = Arc::new(CertificateStore::new().unwrap());
        store.put(Origin::Static, "localhost", certificate.unwrap());
        let tls = Tls::new(store, TlsSettings::default()).unwrap();
        let proxy = Proxy::new(ProxyConfig {
            workers: NonZeroUsize::new(2).unwrap(),
            ..ProxyConfig::default()
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = proxy
            .serve([Listener::https(listener, tls.clone())])
            .unwrap();
        let front = Front {
            proxy,
            tls,
            addr,
            dir,
            _serving: serving,
        };
        front.route("/", app).await;
        front
    }

    /// Sends what is under a path to an app.
    pub(crate) async fn route(&self, path: &str, app: SocketAddr) -> Option<Replaced> {
        let hosts = ["localhost", "127.0.0.1"].map(|host| host.parse().unwrap());
        let mut route = RouteSpec::new(path, hosts.to_vec(), vec![Upstream::new(app)]);
        route.path = path.parse().unwrap();
        self.proxy.apply(route).await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.addr.port())
    }

    /// The file of the certificate that clients are to trust.
    pub(crate) fn certificate(&self) -> String {
        self.dir.path().join("cert.pem").display().to_string()
    }
}
