//! Kept connections, retries and stand-ins.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::world::{Backend, Client, LONG, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use vela_proxy::{ProxyConfig, Router, Timeouts};

#[tokio::test]
async fn an_instance_that_refuses_is_stood_in_for() {
    let world = World::start();
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    drop(world.route(&[one.addr, two.addr]).await);
    let mut client = world.client().await;
    while one.heads().is_empty() || two.heads().is_empty() {
        assert_eq!(client.get("/").await.status, 200);
    }
    let dead = one.addr;
    one.kill().await;
    let body = "x".repeat(200_000);
    while !world.ejected().contains(&dead) {
        let head = "POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000\r\n\r\n";
        client.send(format!("{head}{body}")).await;
        assert_eq!(client.answer().await.body, body);
    }
    let stats = world.proxy.stats();
    assert_eq!((stats.upstream_errors, stats.retries), (1, 0));
    assert_eq!(world.ejected(), [dead]);
}

#[tokio::test]
async fn only_what_is_safe_is_sent_twice() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    // Each time the upstream closes the kept connection while it is being used again.
    let mut client = world.client().await;
    assert_eq!(client.get("/once").await.body, "one");
    assert_eq!(client.get("/").await.body, "one");
    let retried = world.proxy.stats();
    assert_eq!(retried.retries, 1);

    assert_eq!(client.get("/once").await.body, "one");
    client
        .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(client.get("/once").await.body, "one");
    client
        .send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx")
        .await;
    assert_eq!(client.answer().await.status, 502);
    // One that never answers is not asked twice either.
    assert_eq!(client.get("/bye").await.status, 502);
    assert_eq!(world.proxy.stats().retries, 1);
    let byes = backend
        .heads()
        .iter()
        .filter(|head| head.contains("/bye"))
        .count();
    assert_eq!(byes, 1);
}

/// Of an idempotent request without a body, on a kept connection: what came makes the difference.
#[tokio::test]
async fn what_was_answered_in_part_is_not_sent_twice() {
    let world = World::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    let mut client = world.client().await;
    let ask = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (mut head, hints) = ([0; 4096], "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    for (part, heads) in [(hints, hints), ("HTTP/1.1 100 Continue\r\n\r\n", "")] {
        client.send(ask).await;
        let (mut upstream, _) = listener.accept().await.unwrap();
        assert!(upstream.read(&mut head).await.unwrap() > 0);
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        upstream.write_all(whole).await.unwrap();
        assert_eq!(client.answer().await.status, 200);
        client.send(ask).await;
        assert!(upstream.read(&mut head).await.unwrap() > 0);
        upstream.write_all(part.as_bytes()).await.unwrap();
        drop(upstream);
        assert_eq!(client.read_exactly(heads.len()).await, heads);
        assert_eq!(client.answer().await.status, 502);
    }
    assert_eq!(world.proxy.stats().retries, 0);
}

/// An upstream that answers well until it is asked for `/crash`: then nothing is left of it, as of
/// a process. Counts how often that was.
async fn fragile(crashes: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let crashes = Arc::clone(crashes);
    tokio::spawn(async move {
        let (crash, mut crashed) = mpsc::channel(1);
        let mut connections = JoinSet::new();
        let serving = async {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let crash = crash.clone();
                connections.spawn(async move {
                    let mut head = [0; 4096];
                    while let Ok(length @ 1..) = socket.read(&mut head).await {
                        if head[..length].starts_with(b"GET /crash ") {
                            crash.send(()).await.unwrap();
                            std::future::pending::<()>().await;
                        }
                        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        socket.write_all(whole).await.unwrap();
                    }
                });
            }
        };
        tokio::select! {
            () = serving => {}
            _ = crashed.recv() => {}
        }
        // Before the connections: who notices their end cannot connect again.
        drop(listener);
        crashes.fetch_add(1, Ordering::SeqCst);
    });
    addr
}

#[tokio::test]
async fn a_request_that_crashes_who_gets_it_is_not_taken_to_all() {
    let world = World::with(ProxyConfig {
        timeouts: Timeouts {
            // The kept connections are there however long it takes.
            upstream_idle: 10 * LONG,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    });
    let crashes = Arc::default();
    let mut upstreams = Vec::new();
    for _ in 0..4 {
        upstreams.push(fragile(&crashes).await);
    }
    drop(world.route(&upstreams).await);
    let mut client = world.client().await;
    // Until each has a connection that is kept.
    for _ in 0..100 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(client.get("/crash").await.status, 502);
    assert_eq!(crashes.load(Ordering::SeqCst), 2);
    // One that only refuses to be connected to was not asked: who is left serves.
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(crashes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_not_used() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/until-close").await.body, "to the end");
        client = world.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(world.proxy.stats().upstream_errors, 0);
}

#[tokio::test]
async fn an_early_answer_ends_its_connection() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    client
        .send("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(world.get("/").await.body, "one");
    drop(client);
    world
        .until("nothing in flight", |stats| stats.in_flight == 0)
        .await;
}

#[tokio::test]
async fn a_request_that_is_answered_early_lasts_until_its_body_has_ended() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let mut client = world.client().await;
    client
        .send("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(world.proxy.stats().in_flight, 1);
    let replaced = world.route(&[new.addr]).await.unwrap();
    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(replaced, LONG.into()).await });
    assert_eq!(world.get("/").await.body, "new");
    assert!(!drain.is_finished());
    client.send("defghij").await;
    assert!(drain.await.unwrap().is_complete());
    assert_eq!(client.get("/").await.body, "new");
}

/// What the client sent fills all buffers on the way, so that nothing of it is read.
#[tokio::test]
async fn a_client_that_leaves_while_its_upload_is_not_taken_is_noticed() {
    let world = World::with(ProxyConfig {
        timeouts: Timeouts {
            response: 10 * LONG,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    for path in ["/deaf", "/early-deaf"] {
        let mut client = world.client().await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n"
            ))
            .await;
        if path == "/early-deaf" {
            assert_eq!(client.answer().await.status, 413);
        }
        world.until("sent", |stats| stats.in_flight == 1).await;
        let mut socket = client.socket.into_inner();
        let piece = vec![b'x'; 1 << 20];
        let moment = Duration::from_millis(300);
        // Where it moves no more, all buffers are full.
        while let Ok(sent) = tokio::time::timeout(moment, socket.write(&piece)).await {
            sent.unwrap();
        }
        assert_eq!(world.proxy.stats().in_flight, 1);
        // Killed, say: it ends by a reset, since its last words were not taken.
        socket2::SockRef::from(&socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(socket);
        world
            .until("nothing is open", |stats| {
                (stats.in_flight, stats.connections) == (0, 0)
            })
            .await;
    }
}

/// An upstream that takes so much of a request and dies. Gives what each connection began with.
async fn dying(most: usize) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let begins = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&begins);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut taken = Vec::new();
            while taken.len() < most && socket.read_buf(&mut taken).await.unwrap_or(0) > 0 {}
            taken.truncate(40);
            // A probe asks for nothing.
            if !taken.is_empty() {
                all.lock().unwrap().push(taken);
            }
            socket2::SockRef::from(&socket)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    });
    (addr, begins)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_begins_with_a_piece_of_a_body() {
    let world = World::start();
    let (one, begins) = dying(64 * 1024).await;
    let (two, more_begins) = dying(64 * 1024).await;
    drop(world.route(&[one, two]).await);
    let chunk = format!("{:x}\r\n{}\r\n", 3000, "x".repeat(3000)).repeat(8);
    for _ in 0..50 {
        let mut client = world.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let (mut reading, mut writing) = client.socket.into_inner().into_split();
        let upload = async { while writing.write_all(chunk.as_bytes()).await.is_ok() {} };
        let mut answer = [0; 12];
        let answered = async { reading.read_exact(&mut answer).await };
        tokio::select! {
            () = upload => {}
            read = answered => {
                read.unwrap();
                assert_eq!(&answer, b"HTTP/1.1 502");
            }
        }
    }
    let begins = [
        begins.lock().unwrap().clone(),
        more_begins.lock().unwrap().clone(),
    ]
    .concat();
    assert!(begins.len() >= 50);
    for begin in begins {
        let begin = String::from_utf8_lossy(&begin);
        assert!(begin.starts_with("POST / HTTP/1.1\r\n"), "{begin}");
    }
}

/// It neither takes the body nor closes: nothing but a limit ends that.
#[tokio::test]
async fn an_upstream_that_is_deaf_after_an_early_answer_is_given_up() {
    let world = World::with(ProxyConfig {
        timeouts: Timeouts {
            response: Duration::from_secs(2),
            linger: Duration::from_secs(1),
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    client
        .send("POST /early-deaf HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 413);
    let upload = async {
        let piece = vec![b'x'; 1 << 20];
        while client.socket.get_mut().write_all(&piece).await.is_ok() {}
    };
    tokio::time::timeout(LONG, upload).await.expect("an end");
    world
        .until("nothing is open", |stats| {
            (stats.in_flight, stats.connections) == (0, 0)
        })
        .await;
    assert_eq!(backend.accepted_connections(), 1);
}

#[tokio::test]
async fn unused_upstream_connections_are_closed_in_time() {
    let world = World::with(ProxyConfig {
        timeouts: Timeouts {
            upstream_idle: Duration::from_millis(100),
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    for _ in 0..5 {
        client.get("/").await;
    }
    backend.until_connections(0).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn a_request_whose_instance_dies_at_the_switch_goes_to_the_next() {
    let world = World::start();
    let new = Backend::start("new").await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(world.route(&[dead]).await.is_none());
    // Refused before the switch, served after it; at no time anything else.
    let load: Vec<_> = (0..8)
        .map(|_| {
            let proxy_addr = world.addr;
            tokio::spawn(async move {
                let mut client = Client::connect(proxy_addr).await;
                loop {
                    let answer = client.get("/").await;
                    match answer.status {
                        502 => tokio::task::yield_now().await,
                        200 => return answer.body,
                        other => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    world
        .until("requests are refused", |stats| stats.upstream_errors > 100)
        .await;
    drop(world.route(&[new.addr]).await);
    for one in load {
        assert_eq!(one.await.unwrap(), "new");
    }
}
