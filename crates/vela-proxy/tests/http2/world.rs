use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vela_proxy::tls::{CertificateStore, Origin, Tls, TlsSettings};
use vela_proxy::{
    Listener, Proxy, ProxyConfig, Replaced, RouteSpec, Router, Serving, Stats, Upstream,
};

use crate::client::Client;
use crate::tls::Authority;

/// Longer than anything takes, so that a hanging test fails instead.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A proxy that speaks HTTP/2 for `a.test`.
pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) door: Door,
    pub(crate) serving: Serving,
}

/// How to get in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    /// The certificate of the authority that clients trust.
    pub(crate) authority: String,
}

impl World {
    pub(crate) fn start() -> World {
        World::with(ProxyConfig::default())
    }

    pub(crate) fn with(config: ProxyConfig) -> World {
        World::on(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), config)
    }

    pub(crate) fn on(listener: std::net::TcpListener, config: ProxyConfig) -> World {
        let authority = Authority::new("The tests' authority");
        let store = Arc::new(CertificateStore::new().unwrap());
        store.put(Origin::Static, "a", authority.certificate(&["a.test"]));
        let tls = Tls::new(store, TlsSettings::default()).unwrap();
        let proxy = Proxy::new(ProxyConfig {
            workers: NonZeroUsize::new(2).unwrap(),
            ..config
        });
        let addr = listener.local_addr().unwrap();
        let serving = proxy.serve([Listener::https(listener, tls)]).unwrap();
        World {
            proxy,
            door: Door {
                addr,
                authority: authority.pem,
            },
            serving,
        }
    }

    /// Sends `a.test` to an upstream.
    pub(crate) async fn route(&self, upstream: SocketAddr) -> Option<Replaced> {
        self.proxy.apply(spec("app", upstream)).await.unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.door).await
    }

    /// Waits for what the proxy's threads are about to do.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(Stats) -> bool) {
        until(&format!("{what}: {:?}", self.proxy.stats()), || {
            holds(self.proxy.stats())
        })
        .await;
    }
}

pub(crate) fn spec(id: &str, upstream: SocketAddr) -> RouteSpec {
    let hosts = vec!["a.test".parse().unwrap()];
    RouteSpec::new(id, hosts, vec![Upstream::new(upstream)])
}

/// Waits for what nobody tells.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reached = tokio::time::timeout(LONG, waiting).await;
    assert!(reached.is_ok(), "not reached: {what}");
}

impl Door {
    /// Shakes hands for HTTP/2.
    pub(crate) async fn enter(&self) -> TlsStream<TcpStream> {
        self.shake(TcpStream::connect(self.addr).await.unwrap())
            .await
    }

    /// The same with little room between the two.
    pub(crate) async fn enter_narrowly(&self) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        self.shake(socket.connect(self.addr).await.unwrap()).await
    }

    async fn shake(&self, socket: TcpStream) -> TlsStream<TcpStream> {
        socket.set_nodelay(true).unwrap();
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes());
        roots.add(authority.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("a.test").unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
        let stream = connecting.await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream
    }
}

/// An upstream that does by the head of a request what it is told to, once a connection.
pub(crate) async fn upstream<F, Done>(answer: F) -> SocketAddr
where
    F: Fn(String, BufReader<TcpStream>) -> Done + Send + 'static,
    Done: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = BufReader::new(socket);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            if head.ends_with(b"\r\n\r\n") {
                tokio::spawn(answer(String::from_utf8(head).unwrap(), socket));
            }
        }
    });
    addr
}

/// One that always answers the same, and closes.
pub(crate) async fn saying(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    upstream(move |_, mut socket| {
        let answer = answer.clone();
        async move {
            socket.get_mut().write_all(&answer).await?;
            socket.get_mut().shutdown().await
        }
    })
    .await
}
