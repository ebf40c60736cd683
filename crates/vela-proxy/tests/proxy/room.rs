//! As many connections as may be, and more clients that come.

use std::time::Duration;

use vela_proxy::{Limits, ProxyConfig, Timeouts};

use crate::world::{Backend, Client, LONG, World};

const NEVER: Duration = Duration::from_secs(3600);
const RECLAIMED: &str = "vela_proxy_connections_reclaimed_total";

/// No connection ends by itself.
fn patient(limits: Limits) -> World {
    World::with(ProxyConfig {
        limits,
        timeouts: Timeouts {
            keep_alive: NEVER,
            header_read: NEVER,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    })
}

fn limit(connections: usize) -> Limits {
    Limits {
        connections,
        ..Limits::default()
    }
}

/// One whose request the backend has, and does not answer.
async fn busy(world: &World, backend: &Backend) -> Client {
    let mut client = world.client().await;
    client
        .send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    backend.until_requests(1).await;
    client
}

#[tokio::test]
async fn idle_connections_make_room_for_those_that_come() {
    let world = patient(limit(4));
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut busy = busy(&world, &backend).await;
    let mut asking = world.client().await;
    asking.send("GET / HTTP/1.1\r\nHo").await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut client = world.client().await;
        assert_eq!(client.get("/").await.status, 200);
        idle.push(client);
    }
    world
        .until("all are served", |stats| stats.connections == 4)
        .await;
    let metrics = world.metrics();
    assert_eq!(metrics.value("vela_proxy_connections_limit"), Some(4.0));
    assert_eq!(metrics.value(RECLAIMED), Some(0.0));

    // As many as there are idle ones, and each stays.
    let mut coming = Vec::new();
    for requests in [4, 5] {
        let mut client = world.client().await;
        client
            .send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await;
        coming.push(client);
        backend.until_requests(requests).await;
    }
    for mut client in idle {
        assert_eq!(client.rest().await, "");
    }
    let metrics = world.metrics_when(RECLAIMED, 2.0).await;
    let delayed = metrics.value("vela_proxy_connections_delayed_total");
    assert!(delayed.is_some_and(|delayed| (1.0..=2.0).contains(&delayed)));
    // Those that were busy have missed nothing.
    asking.send("st: a.test\r\n\r\n").await;
    assert_eq!(asking.answer().await.status, 200);
    backend.open_gate(3);
    for client in [&mut busy].into_iter().chain(&mut coming) {
        assert_eq!(client.answer().await.status, 200);
    }
}

/// Nobody is to go for one that may never come.
#[tokio::test]
async fn a_full_proxy_keeps_its_idle_connections_until_somebody_comes() {
    let world = patient(limit(2));
    let mut inside = Vec::new();
    for _ in 0..2 {
        let mut client = world.client().await;
        assert_eq!(client.get("/").await.status, 404);
        inside.push(client);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for client in &mut inside {
        assert_eq!(client.get("/").await.status, 404);
    }
    assert_eq!(world.metrics().value(RECLAIMED), Some(0.0));
}

/// A balancer's connections are those of all its clients.
#[tokio::test]
async fn trusted_proxies_have_no_limit_of_their_own() {
    let world = World::with(ProxyConfig {
        limits: Limits {
            connections_per_address: 1,
            ..Limits::default()
        },
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..ProxyConfig::default()
    });
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = world.client().await;
        assert_eq!(client.get("/").await.status, 404);
        clients.push(client);
    }
    world
        .until("all are open", |stats| stats.connections == 3)
        .await;
}

/// A worker that stops does not lose what it has accepted and not served yet.
#[tokio::test]
async fn who_waits_for_room_is_served_when_the_proxy_stops() {
    let world = patient(limit(1));
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut busy = busy(&world, &backend).await;
    let mut waiting = world.client().await;
    waiting.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    world
        .metrics_when("vela_proxy_connections_delayed_total", 1.0)
        .await;
    let stopping = tokio::spawn(world.serving.shutdown(LONG));
    assert_eq!(waiting.answer().await.body, "one");
    backend.open_gate(1);
    assert_eq!(busy.answer().await.body, "one");
    assert!(stopping.await.unwrap().is_complete());
}
