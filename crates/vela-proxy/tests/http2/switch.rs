//! Deploys under the requests of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use vela_proxy::{Park, ParkLimits, Router};

use crate::LONG;
use crate::backend::Backend;
use crate::client::{Client, answer, get, next, request};
use crate::world::{World, spec};

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_over_250_swaps_under_load() {
    let world = World::start();
    let mut current = Backend::start("0").await;
    world.route(current.addr).await;

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let mut load = Vec::new();
    for _ in 0..3 {
        let kept = world.client().await;
        for number in 0..6 {
            let (stop, done, door) = (Arc::clone(&stop), Arc::clone(&done), world.door.clone());
            let requests = kept.requests.clone();
            load.push(tokio::spawn(async move {
                let mut client = Client {
                    requests,
                    connection: tokio::spawn(async { Ok(()) }),
                };
                let mut round = number;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    if number == 0 && round % 16 == 0 {
                        client = Client::connect(&door).await;
                    }
                    let (asked, body) = match round % 3 {
                        0 => (request("POST", "/echo"), Some(Bytes::from("body"))),
                        _ => (get("/"), None),
                    };
                    let is_echo = body.is_some();
                    let answer = client.ask(asked, body).await.unwrap();
                    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
                    assert!(!is_echo || answer.body == "body");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }

    for swap in 1..=250 {
        let next = Backend::start(&swap.to_string()).await;
        let replaced = world.route(next.addr).await.expect("an old generation");
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
    assert_eq!((stats.upstream_errors, stats.retries), (0, 0), "{stats:?}");
    assert_eq!(stats.requests as usize, done.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_drain_waits_for_streams_and_for_nothing_else() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    world.route(old.addr).await;
    let mut client = world.client().await;
    let (slow, _) = client.send(get("/slow"), true).await;
    let (stream, _) = client.send(get("/stream"), true).await;
    let mut stream = stream.await.unwrap().into_body();
    assert_eq!(next(&mut stream).await.unwrap(), "first");
    old.until_requests(2).await;
    let replaced = world.route(new.addr).await.unwrap();
    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(replaced, LONG.into()).await });
    // The same connection is for the new one already.
    for _ in 0..50 {
        assert_eq!(client.get("/").await.body, "new");
    }
    assert!(!drain.is_finished());
    old.open_gate(2);
    assert_eq!(answer(slow).await.unwrap().body, "old");
    assert_eq!(next(&mut stream).await.unwrap(), "last");
    assert_eq!(next(&mut stream).await, None);
    assert!(drain.await.unwrap().is_complete());
    old.until_connections(0).await;
    assert_eq!(old.heads().len(), 2);
}

#[tokio::test]
async fn parked_streams_are_only_late() {
    let world = World::start();
    let new = Backend::start("new").await;
    let mut parked = spec("app", new.addr);
    parked.upstreams.clear();
    let limits = ParkLimits {
        max_wait: Duration::from_secs(3600),
        max_requests: 101,
    };
    world.proxy.park(parked, limits).await.unwrap();

    let mut client = world.client().await;
    let mut waiting = Vec::new();
    for number in 0..100 {
        let (asked, body) = match number % 2 {
            0 => (get("/"), None),
            _ => (request("POST", "/echo"), Some(Bytes::from("new"))),
        };
        let (response, mut sending) = client.send(asked, body.is_none()).await;
        if let Some(body) = body {
            sending.send_data(body, true).unwrap();
        }
        waiting.push(response);
    }
    // It has sent more than is read of a request that waits.
    let (left, mut leaving) = client.send(request("POST", "/echo"), false).await;
    leaving.send_data(vec![b'x'; 60_000].into(), false).unwrap();
    world
        .until("all are parked", |stats| stats.parked_now == 101)
        .await;
    let over = client.get("/").await;
    assert_eq!(
        (over.status.as_u16(), over.header("retry-after")),
        (503, Some("5"))
    );
    // One that goes gives its place back.
    leaving.send_reset(h2::Reason::CANCEL);
    drop(left);
    world
        .until("one has gone", |stats| stats.parked_now == 100)
        .await;

    world.route(new.addr).await;
    for response in waiting {
        let answer = tokio::time::timeout(LONG, answer(response))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "new"));
    }
    let stats = world.proxy.stats();
    assert_eq!((stats.parked_now, stats.upstream_errors), (0, 0));
}
