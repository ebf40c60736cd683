//! Clients that leave, and clients that do not take what they are sent.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vela_proxy::{Park, ParkLimits, ProxyConfig, Router, Timeouts};

use crate::world::{Backend, Client, LONG, World, spec};

/// More than the proxy reads of what it has no use for yet, and less than the kernel takes.
const AHEAD: usize = 64 * 1024;
/// More than is on its way anywhere.
const LARGE: usize = 20_000_000;
/// As much as the proxy reads at a time.
const LITTLE: usize = 15_000;

fn with(timeouts: Timeouts) -> ProxyConfig {
    ProxyConfig {
        timeouts,
        ..ProxyConfig::default()
    }
}

fn reset(client: Client) {
    let socket = client.socket.into_inner();
    socket2::SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Many clients read nothing before they have sent all.
#[tokio::test]
async fn an_answer_is_there_for_a_client_that_first_sends_all() {
    let world = World::with(with(Timeouts {
        response: Duration::from_secs(1),
        linger: 2 * LONG,
        linger_idle: LONG,
        ..Timeouts::default()
    }));
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut limited = spec("limited", "b.test", &[backend.addr]);
    limited.options.max_body = Some(1_000_000);
    drop(world.proxy.apply(limited).await.unwrap());
    // One that the proxy refuses, one that the app has answered and does not take.
    for (host, path) in [("b.test", "/echo"), ("a.test", "/early-deaf")] {
        let mut client = world.client().await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {LARGE}\r\n\r\n"
            ))
            .await;
        client.send(vec![b'x'; LARGE]).await;
        assert_eq!(client.answer().await.status, 413, "{host}");
        assert_eq!(client.socket.read(&mut [0]).await.unwrap(), 0, "{host}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_parking_place_back_whatever_it_has_sent() {
    let world = World::start();
    let limits = ParkLimits {
        max_wait: 10 * LONG,
        max_requests: 10,
    };
    let parked = spec("app", "a.test", &[]);
    assert!(world.proxy.park(parked, limits).await.unwrap().is_none());
    let mut client = world.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    client.send(vec![b'x'; AHEAD]).await;
    world.until("parked", |stats| stats.parked_now == 1).await;
    reset(client);
    world
        .until("nothing is open", |stats| {
            (stats.parked_now, stats.connections) == (0, 0)
        })
        .await;
}

/// Nobody accepts, and its queue is full.
async fn full() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let moment = Duration::from_millis(500);
    while let Ok(connected) = timeout(moment, TcpStream::connect(addr)).await {
        waiting.push(connected.unwrap());
    }
    (listener, waiting)
}

#[tokio::test]
async fn a_client_that_leaves_is_not_dialled_for() {
    let world = World::with(with(Timeouts {
        connect: 10 * LONG,
        ..Timeouts::default()
    }));
    let (listener, _waiting) = full().await;
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    let mut client = world.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    client.send(vec![b'x'; AHEAD]).await;
    world.until("in flight", |stats| stats.in_flight == 1).await;
    reset(client);
    world
        .until("nothing is open", |stats| {
            (stats.in_flight, stats.connections) == (0, 0)
        })
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_with_much_behind_its_request_takes_it_along() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    for (number, path) in ["/slow", "/stream"].into_iter().enumerate() {
        let mut client = world.client().await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .await;
        client.send(vec![b'x'; AHEAD]).await;
        backend.until_requests(number + 1).await;
        if path == "/stream" {
            client.read_head().await.unwrap();
        }
        reset(client);
        world
            .until("not in flight", |stats| stats.in_flight == 0)
            .await;
        // What it waits for takes it to where it sees that.
        backend.open_gate(1);
        backend.until_connections(0).await;
    }
}

/// A proxy and a client with little between them, and a response that the client does not take.
async fn untaken(request: &str, response: Vec<u8>, rest: Rest) -> Untaken {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&listener)
        .set_send_buffer_size(4096)
        .unwrap();
    let world = World::on(
        listener,
        with(Timeouts {
            write: Duration::from_millis(300),
            ..Timeouts::default()
        }),
    );
    let (addr, upstream) = upstream(response, rest).await;
    drop(world.route(&[addr]).await);
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(4096).unwrap();
    let mut client = client.connect(world.addr).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    Untaken {
        world,
        upstream,
        client,
    }
}

struct Untaken {
    world: World,
    /// Ends when the proxy has closed its connection to the upstream.
    upstream: JoinHandle<()>,
    client: TcpStream,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    Endless,
}

/// One that has one connection.
async fn upstream(response: Vec<u8>, rest: Rest) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        socket.write_all(&response).await.unwrap();
        if rest == Rest::Endless {
            while socket.write_all(&[b'x'; 4096]).await.is_ok() {}
        }
        assert!(matches!(socket.read(&mut [0; 4096]).await, Ok(0) | Err(_)));
    });
    (addr, serving)
}

#[tokio::test]
async fn a_response_that_nobody_takes_is_given_up() {
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 30);
    let chunk = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        1 << 30
    );
    for head in [length, chunk] {
        let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let mut untaken = untaken(get, head.into_bytes(), Rest::Endless).await;
        let ended = timeout(LONG, untaken.upstream).await;
        ended.expect("an end at the upstream").unwrap();
        let mut got = Vec::new();
        let read = timeout(LONG, untaken.client.read_to_end(&mut got)).await;
        // By its framing it is not whole, however it ends.
        read.expect("an end").ok();
        assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(got.len() < 1 << 20, "{}", got.len());
        drop(untaken.client);
        let world = &untaken.world;
        world
            .until("nothing is open", |stats| {
                (stats.in_flight, stats.connections) == (0, 0)
            })
            .await;
    }
}

/// An old client knows the end of such a response by the end of its connection only.
#[tokio::test]
async fn what_an_old_client_does_not_take_ends_by_a_reset() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
    for (response, rest) in [
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), Rest::Endless),
        (format!("{chunked}{:x}\r\n", 1 << 30), Rest::Endless),
        // The proxy has all of it, and the kernel has no room for that.
        (format!("{chunked}{}0\r\n\r\n", chunk(LITTLE)), Rest::None),
    ] {
        let get = "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n";
        let mut untaken = untaken(get, response.into_bytes(), rest).await;
        let ended = timeout(LONG, untaken.upstream).await;
        ended.expect("an end at the upstream").unwrap();
        let mut got = Vec::new();
        let read = timeout(LONG, untaken.client.read_to_end(&mut got)).await;
        match read.expect("an end") {
            Ok(_) => assert!(rest == Rest::None && got.ends_with(&[b'x'; LITTLE])),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// It is the request that is cut then.
#[tokio::test]
async fn a_whole_response_to_an_old_client_is_none_that_is_cut() {
    let world = World::start();
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
    let (addr, _upstream) = upstream(response.to_vec(), Rest::None).await;
    drop(world.route(&[addr]).await);
    let mut client = world.client().await;
    client
        .send("POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    client.read_head().await.unwrap();
    assert_eq!(client.read_exactly(5).await, "whole");
    client.socket.get_mut().shutdown().await.unwrap();
    let end = timeout(LONG, client.socket.read(&mut [0])).await;
    assert_eq!(end.expect("an end").expect("a clean one"), 0);
}
