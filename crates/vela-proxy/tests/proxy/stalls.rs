//! Upstreams that stop in the middle of a response, and stay connected.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use vela_proxy::{DrainLimits, ProxyConfig, RouteOptions, RouteSpec, Router, Timeouts};

use crate::world::{Backend, LONG, World, spec};

const SHORT: Duration = Duration::from_millis(200);

fn impatient() -> World {
    World::with(ProxyConfig {
        timeouts: Timeouts {
            response_body: SHORT,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    })
}

const SILENT: &str = r#"vela_proxy_upstream_errors_total{app="app",kind="fell_silent"}"#;

/// As one does that was stopped by a signal, or whose machine has lost its power.
#[tokio::test]
async fn an_upstream_that_falls_silent_in_a_body_is_given_up() {
    let world = impatient();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    for (number, framing, body) in [
        (1.0, "Content-Length: 100", "half of it"),
        (2.0, "Transfer-Encoding: chunked", "a\r\nhalf of it\r\n"),
        (3.0, "X: until the end", "half of it"),
    ] {
        let mut client = world.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let (mut upstream, _) = listener.accept().await.unwrap();
        assert!(upstream.read(&mut [0; 4096]).await.unwrap() > 0);
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}");
        upstream.write_all(answer.as_bytes()).await.unwrap();
        client.read_head().await.unwrap();
        let rest = client.rest().await;
        assert!(rest.contains("half of it"), "{framing}: {rest:?}");
        assert!(!rest.ends_with("0\r\n\r\n"), "{framing}: {rest:?}");
        // It is told, too, and holds up no drain.
        assert_eq!(upstream.read(&mut [0; 1]).await.unwrap(), 0);
        world.metrics_when(SILENT, number).await;
    }
    let replaced = world.route(&[]).await.unwrap();
    let drained = world.proxy.drain(replaced, DrainLimits::from(LONG)).await;
    assert!(drained.is_complete());
}

#[tokio::test]
async fn a_route_has_its_own_patience_with_bodies() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let options = RouteOptions {
        response_body_timeout: Some(SHORT),
        ..RouteOptions::default()
    };
    let route = RouteSpec {
        options,
        ..spec("app", "a.test", &[backend.addr])
    };
    drop(world.proxy.apply(route).await.unwrap());
    let mut client = world.client().await;
    client
        .send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    client.read_head().await.unwrap();
    assert_eq!(client.rest().await, "5\r\nfirst\r\n");
    world.metrics_when(SILENT, 1.0).await;
}

#[tokio::test]
async fn streams_may_be_silent() {
    let world = impatient();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut events = world.client().await;
    events
        .send("GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    events.read_head().await.unwrap();
    let mut socket = world.client().await;
    socket
        .send("GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    socket.read_head().await.unwrap();
    assert_eq!(socket.read_exactly(6).await, "hello ");
    // As long as one that is no stream is given up after.
    let mut other = world.client().await;
    for _ in 0..2 {
        other
            .send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await;
        other.rest().await;
        other = world.client().await;
    }
    socket.send("still here").await;
    assert_eq!(socket.read_exactly(10).await, "still here");
    // The gate lets them end.
    assert_eq!(events.read_exactly(14).await, "9\r\ndata: 1\n\n\r\n");
    let rest = timeout(SHORT, events.socket.read_u8()).await;
    assert!(rest.is_err(), "{rest:?}");
}

/// An old client knows the end of such a response by the end of its connection only.
#[tokio::test]
async fn a_client_that_stalls_once_the_response_has_begun_is_given_up() {
    let world = impatient();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    let mut client = world.client().await;
    client
        .send("POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"half") {
        upstream.read_buf(&mut request).await.unwrap();
    }
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\necho\r\n")
        .await
        .unwrap();
    client.read_head().await.unwrap();
    assert_eq!(client.read_exactly(4).await, "echo");
    let ended = timeout(LONG, client.socket.read_u8()).await.unwrap();
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(upstream.read(&mut [0; 1]).await.unwrap(), 0);
    // Nobody can say whose fault it was.
    let requests = r#"vela_proxy_requests_total{app="app",method="POST",class="2xx"}"#;
    let metrics = world.metrics_when(requests, 1.0).await;
    assert_eq!(metrics.value(SILENT), Some(0.0));
}

/// A machine that is gone says nothing, and neither does a stream that has nothing to say.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_looks_after_silent_streams() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut clients = Vec::new();
    for (request, probed) in [
        ("GET /slow HTTP/1.1\r\n", 0),
        ("GET /events HTTP/1.1\r\n", 1),
        (
            "GET /socket HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n",
            2,
        ),
    ] {
        let mut client = world.client().await;
        client.send(format!("{request}Host: a.test\r\n\r\n")).await;
        match request.contains("slow") {
            true => backend.until_requests(1).await,
            false => drop(client.read_head().await.unwrap()),
        }
        clients.push(client);
        assert_eq!(probed_connections(backend.addr.port()), probed, "{request}");
    }
}

/// How many connections to that port have keep-alive's timer, by what proc(5) says of /proc/net/tcp.
#[cfg(target_os = "linux")]
fn probed_connections(port: u16) -> usize {
    const KEEPALIVE: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().skip(1).map(|line| line.split_whitespace());
    let is_probed = |mut words: std::str::SplitWhitespace<'_>| {
        let (to, timer) = (words.nth(2).unwrap(), words.nth(2).unwrap());
        to.ends_with(&format!(":{port:04X}")) && timer.starts_with(KEEPALIVE)
    };
    lines.filter(|words| is_probed(words.clone())).count()
}
