//! Which of several instances a request goes to, and which of them are not asked.

use crate::world::{Backend, LONG, World, spec};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use vela_proxy::{Router, Upstream};

/// A port that refuses connections until it listens, and that nobody else gets meanwhile.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

async fn until_ejected(world: &World, wanted: &[SocketAddr]) {
    let waiting = async {
        while world.ejected() != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let reached = tokio::time::timeout(LONG, waiting).await;
    assert!(reached.is_ok(), "{:?}", world.proxy.upstreams());
}

#[tokio::test]
async fn who_is_slow_gets_next_to_nothing() {
    let world = World::start();
    let (slow, quick) = (Backend::start("slow").await, Backend::start("quick").await);
    quick.open_gate(1000);
    drop(world.route(&[slow.addr, quick.addr]).await);
    let mut waiting = Vec::new();
    while slow.heads().is_empty() {
        let mut client = world.client().await;
        let before = quick.heads().len();
        client
            .send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await;
        while slow.heads().is_empty() && quick.heads().len() == before {
            tokio::task::yield_now().await;
        }
        if slow.heads().is_empty() {
            client.answer().await;
        }
        waiting.push(client);
    }
    world
        .until("the slow one alone", |stats| stats.in_flight == 1)
        .await;
    let mut client = world.client().await;
    for _ in 0..100 {
        assert_eq!(client.get("/slow").await.body, "quick");
    }
    let in_flight: Vec<_> = world
        .proxy
        .upstreams()
        .iter()
        .map(|one| one.in_flight)
        .collect();
    assert_eq!(in_flight[0], 1);
    slow.open_gate(1000);
    assert_eq!(waiting.pop().unwrap().answer().await.body, "slow");
    while slow.heads().len() < 2 {
        client.get("/slow").await;
    }
}

#[tokio::test]
async fn weights_are_shares() {
    let world = World::start();
    let (one, three, none) = (
        Backend::start("1").await,
        Backend::start("3").await,
        Backend::start("0").await,
    );
    let weighted = |backend: &Backend, weight| Upstream {
        weight,
        ..Upstream::new(backend.addr)
    };
    let mut spec = spec("app", "a.test", &[]);
    spec.upstreams = vec![weighted(&one, 1), weighted(&three, 3), weighted(&none, 0)];
    drop(world.proxy.apply(spec).await.unwrap());
    let mut client = world.client().await;
    for _ in 0..400 {
        client.get("/").await;
    }
    // 300 with a standard deviation of less than 9.
    let threes = three.heads().len();
    assert!((210..390).contains(&threes), "{threes}");
    assert_eq!((one.heads().len(), none.heads().len()), (400 - threes, 0));
    one.kill().await;
    three.kill().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.body, "0");
    }
}

#[tokio::test]
async fn who_refuses_is_left_out_until_a_probe_succeeds() {
    let world = World::start();
    let up = Backend::start("up").await;
    let (socket, down) = refusing();
    drop(world.route(&[up.addr, down]).await);
    let mut client = world.client().await;
    while world.ejected().is_empty() {
        assert_eq!(client.get("/").await.body, "up");
    }
    assert_eq!(world.ejected(), [down]);
    assert_eq!(world.proxy.stats().upstream_errors, 1);
    let back = Backend::on(TcpListener::from_std(listen(socket)).unwrap(), "back");
    // No request is needed for that, and none at risk.
    until_ejected(&world, &[]).await;
    while back.accepted_connections() == 0 {
        tokio::task::yield_now().await;
    }
    back.until_connections(0).await;
    assert_eq!((back.accepted_connections(), back.heads().len()), (1, 0));
    while client.get("/").await.body != "back" {}
    assert_eq!(world.proxy.stats().upstream_errors, 1);
}

#[tokio::test]
async fn who_is_left_out_stays_so_when_the_route_is_applied_again() {
    let world = World::start();
    let up = Backend::start("up").await;
    let (socket, down) = refusing();
    drop(world.route(&[up.addr, down]).await);
    let mut client = world.client().await;
    while world.ejected().is_empty() {
        assert_eq!(client.get("/").await.body, "up");
    }
    let begun = Instant::now();
    let other = Backend::start("other").await;
    let replaced = world.route(&[other.addr, down, up.addr]).await.unwrap();
    assert_eq!(world.ejected(), [down]);
    assert!(world.proxy.drain(replaced, LONG.into()).await.is_complete());
    // Longer than until the next look of who saw it refuse.
    while begun.elapsed() < Duration::from_millis(1500) {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(world.ejected(), [down]);
    assert_eq!(world.proxy.stats().upstream_errors, 1);
    let back = Backend::on(TcpListener::from_std(listen(socket)).unwrap(), "back");
    until_ejected(&world, &[]).await;
    while client.get("/").await.body != "back" {}
    assert_eq!(world.proxy.stats().upstream_errors, 1);
    drop(back);
}

fn listen(socket: TcpSocket) -> std::net::TcpListener {
    socket.listen(16).unwrap().into_std().unwrap()
}

#[tokio::test]
async fn with_nobody_else_those_that_are_ejected_are_asked() {
    let world = World::start();
    let ((first, one), (_second, two)) = (refusing(), refusing());
    drop(world.route(&[one, two]).await);
    assert_eq!(world.get("/").await.status, 502);
    let mut ejected = world.ejected();
    ejected.sort_unstable_by_key(|addr| *addr != one);
    assert_eq!(ejected, [one, two]);
    assert_eq!(world.get("/").await.status, 502);
    let _back = Backend::on(TcpListener::from_std(listen(first)).unwrap(), "back");
    for _ in 0..10 {
        assert_eq!(world.get("/").await.body, "back");
    }
    // The only one of a route is not even noted.
    drop(world.route(&[two]).await);
    assert_eq!(world.get("/").await.status, 502);
    assert!(world.ejected().is_empty());
}

/// It ends all that it accepts, and would always have the least in flight.
#[tokio::test]
async fn who_only_loses_requests_is_left_out() {
    let world = World::start();
    let up = Backend::start("up").await;
    let losing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let losing_addr = losing.local_addr().unwrap();
    let losing = tokio::spawn(async move {
        loop {
            let (mut socket, _) = losing.accept().await.unwrap();
            // Not before it has the request: what was not sent would be sent elsewhere.
            tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 1024])
                .await
                .ok();
        }
    });
    drop(world.route(&[up.addr, losing_addr]).await);
    let mut lost = 0;
    while world.ejected().is_empty() {
        let answer = world.get("/").await;
        lost += usize::from(answer.status == 502);
        assert!(lost <= 5);
    }
    assert_eq!(lost, 5);
    // It accepts, so that the probe succeeds; then it has one chance.
    until_ejected(&world, &[]).await;
    while world.ejected().is_empty() {
        let answer = world.get("/").await;
        lost += usize::from(answer.status == 502);
    }
    assert_eq!(lost, 6);
    losing.abort();
    assert!(losing.await.unwrap_err().is_cancelled());
    for _ in 0..20 {
        assert_eq!(world.get("/").await.body, "up");
    }
}

#[tokio::test]
async fn what_may_have_had_its_effect_is_not_sent_to_another_one() {
    let world = World::start();
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    drop(world.route(&[one.addr, two.addr]).await);
    for _ in 0..4 {
        let mut client = world.client().await;
        client
            .send("POST /bye HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        assert_eq!(client.answer().await.status, 502);
        assert_eq!(world.get("/bye").await.status, 502);
    }
    assert_eq!(one.heads().len() + two.heads().len(), 8);
    assert_eq!(world.proxy.stats().retries, 0);
}

#[tokio::test]
async fn upstreams_are_told_with_what_they_have_in_flight() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let spec = spec("zoo", "z.test", &[backend.addr, backend.addr]);
    drop(world.proxy.apply(spec).await.unwrap());
    let mut clients = Vec::new();
    for host in ["a.test", "z.test", "z.test", "z.test", "z.test"] {
        let mut client = world.client().await;
        client
            .send(format!("GET /slow HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        clients.push(client);
        backend.until_requests(clients.len()).await;
    }
    let told = |world: &World| {
        let upstreams = world.proxy.upstreams();
        let told = upstreams.iter().map(|one| {
            assert_eq!(
                (&one.tag, one.is_ejected),
                (&backend.addr.to_string(), false)
            );
            assert_eq!(one.address, backend.addr.into());
            (one.route.to_string(), one.in_flight)
        });
        told.collect::<Vec<_>>()
    };
    let expected = [("app", 1), ("zoo", 2), ("zoo", 2)];
    assert_eq!(
        told(&world),
        expected.map(|(id, count)| (id.to_owned(), count))
    );
    backend.open_gate(clients.len());
    for mut client in clients {
        client.answer().await;
    }
    world
        .until("all have ended", |stats| stats.in_flight == 0)
        .await;
    assert!(told(&world).iter().all(|(_, in_flight)| *in_flight == 0));
}
