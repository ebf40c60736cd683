//! How a proxy stops.

use std::time::Duration;

use crate::world::{Backend, Client, LONG, World, spec};
use vela_proxy::{ProxyConfig, Router};

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

#[tokio::test]
async fn a_shutdown_waits_for_tunnels_until_its_deadline() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut socket = world.client().await;
    socket
        .send("GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(socket.answer().await.status, 101);
    assert_eq!(socket.read_exactly(6).await, "hello ");
    let shutdown = tokio::spawn(world.serving.shutdown(Duration::from_secs(2)));
    socket.send("still").await;
    assert_eq!(socket.read_exactly(5).await, "still");
    assert_eq!(shutdown.await.unwrap().left, 1);
    assert_eq!(socket.rest().await, "");
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
