//! Switching, draining and parking, under load and in the corners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::world::{Backend, Client, LONG, World, spec};
use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use vela_proxy::{DrainLimits, Park, ParkLimits, Proxy, ProxyConfig, Router, StreamDrain};

const HOUR: Duration = Duration::from_secs(3600);
const SOCKET: &str =
    "GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_over_250_swaps_under_load() {
    let world = World::start();
    let mut current = Backend::start("0").await;
    assert!(world.route(&[current.addr]).await.is_none());

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..12)
        .map(|number| {
            let (stop, done, addr) = (Arc::clone(&stop), Arc::clone(&done), world.addr);
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                let mut round = number;
                while !stop.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        client = Client::connect(addr).await;
                    }
                    round += 1;
                    let answer = if round % 3 == 0 {
                        client
                            .send("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody")
                            .await;
                        let answer = client.answer().await;
                        assert_eq!(answer.body, "body");
                        answer
                    } else {
                        client.get("/").await
                    };
                    assert_eq!(answer.status, 200, "{answer:?}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    for swap in 1..=250 {
        let next = Backend::start(&swap.to_string()).await;
        let replaced = world.route(&[next.addr]).await.expect("an old generation");
        let drained = world.proxy.drain(replaced, LONG.into()).await;
        assert_eq!(drained.left, 0);
        // Nothing of the proxy's is left there: the instance may die.
        current.kill().await;
        current = next;
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 8 && !load.iter().any(|one| one.is_finished())
        {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for one in load {
        one.await.expect("no request fails");
    }
    let stats = world.proxy.stats();
    assert_eq!(stats.upstream_errors, 0, "{stats:?}");
    assert_eq!(stats.retries, 0, "{stats:?}");
    assert_eq!(stats.requests as usize, done.load(Ordering::Relaxed));
    println!("{} requests over 250 swaps", stats.requests);
}

#[tokio::test]
async fn a_kept_alive_client_goes_on_to_the_new_generation() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let mut client = world.client().await;
    assert_eq!(client.get("/").await.body, "old");
    let replaced = world.route(&[new.addr]).await.unwrap();
    assert_eq!(replaced.route().as_str(), "app");
    assert_eq!(replaced.upstreams()[0].address, old.addr.into());
    assert_eq!(client.get("/").await.body, "new");
    assert_eq!(old.open_connections(), 1);
    assert!(world.proxy.drain(replaced, LONG.into()).await.is_complete());
    // Its unused connections are closed, so that its own graceful stop is not held up.
    old.until_connections(0).await;
    old.kill().await;
    assert_eq!(client.get("/").await.body, "new");
}

#[tokio::test]
async fn a_drain_waits_for_requests_in_flight_and_for_nothing_else() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let mut slow = world.client().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut stream = world.client().await;
    stream
        .send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    old.until_requests(2).await;
    let replaced = world.route(&[new.addr]).await.unwrap();
    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(replaced, LONG.into()).await });
    for _ in 0..50 {
        assert_eq!(world.get("/").await.body, "new");
    }
    assert!(!drain.is_finished());
    old.open_gate(2);
    assert_eq!(slow.answer().await.body, "old");
    assert_eq!(stream.answer().await.body, "firstlast");
    assert!(drain.await.unwrap().is_complete());
    old.until_connections(0).await;
    assert_eq!(old.heads().len(), 2);
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_cuts_nothing() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let mut slow = world.client().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    old.until_requests(1).await;
    let replaced = world.route(&[new.addr]).await.unwrap();
    let drained = world
        .proxy
        .drain(replaced, Duration::from_millis(50).into())
        .await;
    assert_eq!(drained.left, 1);
    assert!(drained.waited >= Duration::from_millis(50));
    old.open_gate(1);
    assert_eq!(slow.answer().await.body, "old");
}

#[tokio::test]
async fn a_drain_waits_for_each_kind_as_long_as_it_may() {
    let world = World::start();
    let old = Backend::start("old").await;
    let slow = "GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let moment = Duration::from_millis(50);
    for (request, requests, streams, left) in [(slow, moment, LONG, 1), (SOCKET, LONG, moment, 0)] {
        drop(world.route(&[old.addr]).await);
        let mut client = world.client().await;
        let before = old.heads().len();
        client.send(request).await;
        old.until_requests(before + 1).await;
        if request == SOCKET {
            client.answer().await;
        }
        let replaced = world.route(&[]).await.unwrap();
        let limits = DrainLimits {
            requests,
            streams: StreamDrain::End(streams),
        };
        let drained = world.proxy.drain(replaced, limits).await;
        assert_eq!(drained.left, left);
        assert!(drained.waited < LONG, "{drained:?}");
    }
}

#[tokio::test]
async fn streams_end_in_the_last_half_of_their_time_and_none_is_left() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let mut streams = Vec::new();
    for nth in 0..20 {
        let mut client = world.client().await;
        if nth % 2 == 0 {
            client.send(SOCKET).await;
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
    // An eighth of it is for the closing.
    let time = Duration::from_secs(4);
    let replaced = world.route(&[new.addr]).await.unwrap();
    let begun = Instant::now();
    let ends = streams
        .into_iter()
        .enumerate()
        .map(|(nth, client)| async move {
            let (mut reading, mut writing) = client.socket.into_inner().into_split();
            // Some say something all the time, also at their end.
            let talking = tokio::spawn(async move {
                while nth < 4 && nth % 2 == 0 && writing.write_all(&[b'x'; 1024]).await.is_ok() {}
                writing
            });
            let mut rest = Vec::new();
            // An end, and no reset: of the events the last chunk is missing.
            let read = reading.read_to_end(&mut rest);
            tokio::time::timeout(LONG, read).await.unwrap().unwrap();
            assert!(rest.iter().all(|&byte| byte == b'x'), "{rest:?}");
            let ended = begun.elapsed();
            talking.abort();
            ended
        });
    let (drained, ends) = tokio::join!(world.proxy.drain(replaced, time.into()), join_all(ends));
    assert_eq!(drained.left, 0);
    assert!(ends.iter().all(|&end| end >= time / 2), "{ends:?}");
    old.until_connections(0).await;
    assert_eq!(world.get("/").await.body, "new");
}

/// A keeper replaces the set of instances when one of them dies: the streams of the others go on, and so do
/// their requests, until a drain that ends these instances.
#[tokio::test]
async fn what_was_left_alone_is_drained_with_what_came_after_it() {
    let world = World::start();
    let (dead, old, new) = (
        Backend::start("dead").await,
        Backend::start("old").await,
        Backend::start("new").await,
    );
    drop(world.route(&[old.addr]).await);
    let mut socket = world.client().await;
    socket.send(SOCKET).await;
    socket.answer().await;
    socket.read_exactly(6).await;
    let mut slow = world.client().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    old.until_requests(2).await;
    for upstreams in [&[old.addr, dead.addr][..], &[old.addr]] {
        let replaced = world.route(upstreams).await.unwrap();
        let drained = world.proxy.drain(replaced, DrainLimits::NONE).await;
        assert_eq!(drained.left, 2);
    }
    socket.send("still there").await;
    assert_eq!(socket.read_exactly(11).await, "still there");

    let replaced = world.route(&[new.addr]).await.unwrap();
    let proxy = world.proxy.clone();
    let limits = DrainLimits {
        requests: LONG,
        streams: StreamDrain::End(Duration::ZERO),
    };
    let drain = tokio::spawn(async move { proxy.drain(replaced, limits).await });
    assert_eq!(socket.rest().await, "");
    assert!(!drain.is_finished());
    old.open_gate(1);
    assert_eq!(slow.answer().await.body, "old");
    assert!(drain.await.unwrap().is_complete());
}

#[tokio::test]
async fn a_websocket_lives_through_a_switch_and_holds_the_drain() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let mut socket = world.client().await;
    socket.send(SOCKET).await;
    assert_eq!(socket.answer().await.status, 101);
    assert_eq!(socket.read_exactly(6).await, "hello ");
    let replaced = world.route(&[new.addr]).await.unwrap();
    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(replaced, LONG.into()).await });
    for word in ["still", "there"] {
        socket.send(word).await;
        assert_eq!(socket.read_exactly(5).await, word);
        assert_eq!(world.get("/").await.body, "new");
    }
    assert!(!drain.is_finished());
    drop(socket);
    assert!(drain.await.unwrap().is_complete());
}

#[tokio::test]
async fn parked_requests_are_only_late() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let mut kept = world.client().await;
    assert_eq!(kept.get("/").await.body, "old");
    let limits = ParkLimits {
        max_wait: HOUR,
        max_requests: 10,
    };
    let replaced = world
        .proxy
        .park(spec("app", "a.test", &[]), limits)
        .await
        .unwrap();
    world.proxy.drain(replaced.unwrap(), LONG.into()).await;
    old.kill().await;

    let mut waiting = vec![kept];
    for _ in 0..8 {
        waiting.push(world.client().await);
    }
    let mut leaving = world.client().await;
    leaving.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    for client in &mut waiting {
        // With a body that nobody reads yet: no 100 either.
        client
            .send("POST /echo HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            .await;
    }
    world
        .until("all are parked", |stats| stats.parked_now == 10)
        .await;
    // Parked again, as often as an instance crashes, they keep their places.
    for _ in 0..20 {
        let over = world.get("/").await;
        assert_eq!((over.status, over.header("retry-after")), (503, Some("5")));
        let parked = world.proxy.park(spec("app", "a.test", &[]), limits);
        assert!(parked.await.unwrap().is_none());
    }
    // One that goes gives its place back.
    drop(leaving);
    world
        .until("one has gone", |stats| stats.parked_now == 9)
        .await;

    assert!(world.route(&[new.addr]).await.is_none());
    for client in &mut waiting {
        assert_eq!(client.answer().await.status, 100);
        client.send("body").await;
        assert_eq!(client.answer().await.body, "body");
    }
    let stats = world.proxy.stats();
    // Without those for whom there was no place.
    assert_eq!((stats.parked_now, stats.parked_total), (0, 10));
    assert_eq!(stats.upstream_errors, 0);
}

/// A daemon that starts has a whole queue of the kernel's to answer, and no instance yet.
#[tokio::test]
async fn what_was_queued_over_a_restart_is_parked_and_not_refused() {
    raise_file_limit();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(4096).unwrap().into_std().unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..2000 {
        let mut client = Client::connect(addr).await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        queued.push(client);
    }
    let proxy = Proxy::new(ProxyConfig::default());
    let parked = proxy.park(spec("app", "a.test", &[]), ParkLimits::default());
    assert!(parked.await.unwrap().is_none());
    let serving = proxy.serve([listener]).unwrap();
    let world = World {
        proxy,
        addr,
        serving,
    };
    world
        .until("all are parked", |stats| stats.parked_now == 2000)
        .await;
    let backend = Backend::start("one").await;
    assert!(world.route(&[backend.addr]).await.is_none());
    for client in &mut queued {
        assert_eq!(client.answer().await.body, "one");
    }
    assert_eq!(world.proxy.stats().parked_total, 2000);
}

/// Thousands of connections and both ends of each: more than a shell may give.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// With other limits they do so at other places.
#[tokio::test]
async fn a_request_that_is_parked_twice_has_waited_once() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let gauge = r#"vela_proxy_requests_parked{app="app"}"#;
    let total = r#"vela_proxy_parked_requests_total{app="app"}"#;
    let mut client = world.client().await;
    for max_requests in [1, 2] {
        let limits = ParkLimits {
            max_requests,
            ..ParkLimits::default()
        };
        let parked = world.proxy.park(spec("app", "a.test", &[]), limits);
        assert!(parked.await.unwrap().is_none());
        if max_requests == 1 {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            world.metrics_when(gauge, 1.0).await;
            assert_eq!(world.get("/").await.status, 503);
        }
    }
    // The second place is free: the first request has gone to the new ones.
    let mut second = world.client().await;
    second.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let metrics = world.metrics_when(gauge, 2.0).await;
    assert_eq!(metrics.value(total), Some(2.0));
    assert!(world.route(&[backend.addr]).await.is_none());
    assert_eq!(client.answer().await.body, "one");
    assert_eq!(second.answer().await.body, "one");
    let metrics = world.metrics_when(gauge, 0.0).await;
    assert_eq!(metrics.value(total), Some(2.0));
    let stats = world.proxy.stats();
    assert_eq!((stats.parked_now, stats.parked_total), (0, 2));
}

#[tokio::test]
async fn a_parked_request_waits_no_longer_than_it_may() {
    let world = World::start();
    let limits = ParkLimits {
        max_wait: Duration::from_millis(50),
        ..ParkLimits::default()
    };
    // A route that does not exist yet, as at a start.
    assert!(
        world
            .proxy
            .park(spec("app", "a.test", &[]), limits)
            .await
            .unwrap()
            .is_none()
    );
    let answer = world.get("/").await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("5"))
    );
    assert!(world.proxy.remove(&"app".into()).await.unwrap().is_none());
    assert_eq!(world.get("/").await.status, 404);
    let taken = world.proxy.apply(spec("other", "a.test", &[])).await;
    assert!(taken.unwrap().is_none());
    assert!(
        world
            .proxy
            .park(spec("app", "a.test", &[]), limits)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn removal_lets_what_is_in_flight_end() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut slow = world.client().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    backend.until_requests(1).await;
    let removed = world.proxy.remove(&"app".into()).await.unwrap().unwrap();
    assert_eq!(world.get("/").await.status, 404);
    backend.open_gate(1);
    assert_eq!(slow.answer().await.body, "one");
    assert!(world.proxy.drain(removed, LONG.into()).await.is_complete());
}

/// An instance that has just died refuses before anyone has told the router: its requests wait for that moment.
#[tokio::test]
async fn a_refused_request_follows_a_route_that_is_about_to_change() {
    let timeouts = vela_proxy::Timeouts {
        replacement: LONG,
        ..vela_proxy::Timeouts::default()
    };
    let world = World::with(vela_proxy::ProxyConfig {
        timeouts,
        ..vela_proxy::ProxyConfig::default()
    });
    let dead = Backend::start("dead").await;
    world.route(&[dead.addr]).await;
    dead.kill().await;

    let mut client = world.client().await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    world
        .until("refused", |stats| stats.upstream_errors == 1)
        .await;
    let next = Backend::start("next").await;
    drop(world.route(&[next.addr]).await);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "body"));
    assert_eq!(world.proxy.stats().retries, 1);
}
