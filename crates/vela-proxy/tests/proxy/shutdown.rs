//! How a proxy stops.

use std::time::Duration;

use crate::world::{Backend, Client, LONG, World, spec};
use futures::future::select_all;
use tokio::io::AsyncReadExt;
use vela_proxy::{ProxyConfig, Router, Timeouts};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_shutdown_lets_requests_end_and_then_stops() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut idle = world.client().await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut slow = world.client().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    backend.until_requests(2).await;
    let shutdown = tokio::spawn(world.serving.shutdown(LONG));
    assert_eq!(idle.rest().await, "");
    backend.open_gate(1);
    assert_eq!(slow.answer().await.body, "one");
    assert_eq!(slow.rest().await, "");
    assert!(shutdown.await.unwrap().is_complete());
    assert!(tokio::net::TcpStream::connect(world.addr).await.is_err());
    backend.until_connections(0).await;
}

/// WebSockets and event streams, half each, which have begun.
async fn streams(world: &World, count: usize) -> Vec<Client> {
    let mut streams = Vec::new();
    for nth in 0..count {
        let mut client = world.client().await;
        if nth % 2 == 0 {
            client
                .send("GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await;
            assert_eq!(client.answer().await.status, 101);
            assert_eq!(client.read_exactly(6).await, "hello ");
        } else {
            client
                .send("GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n")
                .await;
            client.read_head().await.unwrap();
            assert_eq!(client.read_exactly(14).await, "9\r\ndata: 1\n\n\r\n");
        }
        streams.push(client);
    }
    streams
}

/// A proxy whose streams have so long at its stop, and where they go.
async fn world_with_streams(stop_streams: Duration) -> (World, Backend) {
    let world = World::with(ProxyConfig {
        timeouts: Timeouts {
            stop_streams,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    (world, backend)
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_gives_requests_their_time() {
    let (world, backend) = world_with_streams(Duration::from_millis(200)).await;
    let mut slow = world.client().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    backend.until_requests(1).await;
    let streams = streams(&world, 100).await;
    let shutdown = tokio::spawn(world.serving.shutdown(HOUR));
    for mut stream in streams {
        // Of the events the last chunk is missing.
        assert_eq!(stream.rest().await, "");
    }
    assert!(!shutdown.is_finished());
    backend.open_gate(1);
    assert_eq!(slow.answer().await.body, "one");
    let drained = tokio::time::timeout(LONG, shutdown).await.unwrap();
    assert!(drained.unwrap().is_complete());
}

#[tokio::test]
async fn a_shutdown_does_not_end_all_streams_at_one_instant() {
    // One in a second, about.
    let (world, _backend) = world_with_streams(Duration::from_secs(200)).await;
    let mut streams = streams(&world, 150).await;
    let shutdown = tokio::spawn(world.serving.shutdown(HOUR));
    let ends = streams
        .iter()
        .map(|stream| Box::pin(stream.socket.get_ref().readable()));
    let first = tokio::time::timeout(2 * LONG, select_all(ends)).await;
    first.unwrap().0.unwrap();
    let mut open = 0;
    for socket in streams.iter_mut().step_by(2) {
        socket.try_send(b"still").await;
        let mut got = [0; 5];
        let answer = tokio::time::timeout(LONG, socket.socket.read_exact(&mut got));
        open += usize::from(answer.await.unwrap().is_ok());
    }
    assert!(open > 75 / 2, "{open}");
    assert!(!shutdown.is_finished());
}

#[tokio::test]
async fn a_listener_that_is_kept_loses_no_connection_over_a_restart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let backend = Backend::start("one").await;
    for _ in 0..2 {
        let proxy = vela_proxy::Proxy::new(ProxyConfig::default());
        drop(
            proxy
                .apply(spec("app", "a.test", &[backend.addr]))
                .await
                .unwrap(),
        );
        let mut waiting = Client::connect(addr).await;
        waiting.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let serving = proxy.serve(vec![listener.try_clone().unwrap()]).unwrap();
        assert_eq!(waiting.answer().await.body, "one");
        drop(waiting);
        serving.shutdown(LONG).await;
    }
}
