//! What becomes of connections that are slow, switch protocols, or meet a shutdown.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vela_proxy::tls::TlsSettings;
use vela_proxy::{ProxyConfig, Timeouts};

use crate::world::{LARGE, World};

const LONG: Duration = Duration::from_secs(20);

/// A client that keeps its connection.
pub(crate) struct Keeping(tokio::sync::Mutex<TlsStream<TcpStream>>);

impl Keeping {
    pub(crate) async fn connect(world: &World) -> Keeping {
        let socket = TcpStream::connect(world.https).await.unwrap();
        Keeping(tokio::sync::Mutex::new(connect(world, socket).await))
    }

    pub(crate) async fn send(&self, text: &str) {
        let mut stream = self.0.lock().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }

    pub(crate) async fn read_until(&self, end: &str) -> String {
        let mut stream = self.0.lock().await;
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            text.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    pub(crate) async fn get(&self) {
        self.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
        let answer = self.read_until("body: 0\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Whether it ends, with `close_notify`, and without more.
    async fn ends(self) -> bool {
        let mut stream = self.0.into_inner();
        matches!(stream.read(&mut [0]).await, Ok(0))
    }
}

async fn connect(world: &World, socket: TcpStream) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let pem = world.authority.pem.as_bytes();
    roots
        .add(CertificateDer::from_pem_slice(pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("a.test").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
    connecting.await.unwrap()
}

/// A client that reads less at a time than the proxy encrypts.
async fn slow(world: &World) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    connect(world, socket.connect(world.https).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_response_arrives_on_a_connection_that_stays() {
    let world = World::start().await;
    let mut client = slow(&world).await;
    for _ in 0..2 {
        client
            .write_all(b"GET /large HTTP/1.1\r\nhost: a.test\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let mut body = vec![0; LARGE];
        let reading = client.read_exact(&mut body);
        tokio::time::timeout(LONG, reading).await.unwrap().unwrap();
        assert!(body.iter().all(|&byte| byte == b'x'));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_goes_through_a_tunnel_arrives_while_it_is_open() {
    let world = World::start().await;
    let mut client = slow(&world).await;
    let ask =
        "GET /tunnel HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let (mut reading, mut writing) = tokio::io::split(client);
    let sending = async {
        writing.write_all(&vec![b'x'; LARGE]).await.unwrap();
        writing.flush().await.unwrap();
    };
    let mut echo = vec![0; LARGE];
    let both = async { tokio::join!(sending, reading.read_exact(&mut echo)) };
    let ((), read) = tokio::time::timeout(LONG, both).await.unwrap();
    read.unwrap();
    assert!(echo.iter().all(|&byte| byte == b'x'));
}

/// Also to a client that reads nothing before it has sent all.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_wants_is_answered() {
    let config = ProxyConfig {
        timeouts: Timeouts {
            linger: 2 * LONG,
            linger_idle: LONG,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    };
    let settings = TlsSettings::default();
    let world = World::configured(config, settings, |listener| listener, |http| http).await;
    let mut client = connect(&world, TcpStream::connect(world.https).await.unwrap()).await;
    let head = format!("POST / HTTP/1.1\r\nhost: none.test\r\ncontent-length: {LARGE}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; LARGE]).await.unwrap();
    client.flush().await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(LONG, client.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_last_response_is_said() {
    let world = World::start().await;
    let client = Keeping::connect(&world).await;
    client
        .send("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .await;
    client.read_until("body: 0\n").await;
    assert!(client.ends().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_become_tunnels() {
    let world = World::start().await;
    let client = Keeping::connect(&world).await;
    client.get().await;
    client.get().await;
    client
        .send(
            "GET /tunnel HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        )
        .await;
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.send("hello").await;
    client.read_until("hello").await;
    assert_eq!(world.tls.stats().handshakes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_takes_too_long_is_given_up() {
    let settings = TlsSettings {
        handshake_timeout: Duration::from_millis(200),
        ..TlsSettings::default()
    };
    let world = World::with(settings, |listener| listener).await;
    // One that is silent, and one that begins.
    for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut socket = TcpStream::connect(world.https).await.unwrap();
        socket.write_all(said).await.unwrap();
        let ended = tokio::time::timeout(LONG, socket.read(&mut [0])).await;
        // Closed, or reset over what it never read.
        assert!(matches!(ended.unwrap(), Ok(0) | Err(_)));
    }
    world
        .until("two timeouts", |stats| stats.timed_out == 2)
        .await;
}

/// Not even the word that the connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_does_not_stay() {
    let config = ProxyConfig {
        timeouts: Timeouts {
            write: Duration::from_millis(100),
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    };
    let settings = TlsSettings::default();
    let world = World::configured(config, settings, |listener| listener, |http| http).await;
    let mut client = slow(&world).await;
    client
        .write_all(b"GET /large HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    client.read_u8().await.unwrap();
    let begun = Instant::now();
    assert_eq!(world.serving.shutdown(LONG).await.left, 0);
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_refused() {
    let world = World::start().await;
    let mut socket = TcpStream::connect(world.https).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok();
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    world.until("a refusal", |stats| stats.failed == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_connections_properly_and_waits_for_no_silent_one() {
    let world = World::start().await;
    let silent = TcpStream::connect(world.https).await.unwrap();
    let idle = Keeping::connect(&world).await;
    idle.get().await;
    let tunnel = Keeping::connect(&world).await;
    tunnel
        .send(
            "GET /tunnel HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        )
        .await;
    tunnel.read_until("\r\n\r\n").await;
    let begun = Instant::now();
    let serving = world.serving.shutdown(LONG);
    let client = async {
        assert!(idle.ends().await);
        assert!(tunnel.ends().await);
    };
    let (drained, ()) = tokio::join!(serving, client);
    assert_eq!(drained.left, 0);
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    drop(silent);
    assert!(
        world
            .store
            .status()
            .iter()
            .filter_map(|one| one.details.as_ref())
            .all(|one| one.days_left(SystemTime::now()) > 0)
    );
}
