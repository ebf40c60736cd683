//! How connections end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use vela_proxy::{ProxyConfig, Timeouts};

use crate::LONG;
use crate::backend::Backend;
use crate::client::{answer, get, next, request};
use crate::frames::{
    DATA, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, NO_ERROR, PING, fields, frame, whole,
    window_update,
};
use crate::raw::Raw;
use crate::world::{World, saying};

async fn world_with(timeouts: Timeouts) -> (World, Backend) {
    let world = World::with(ProxyConfig {
        timeouts,
        ..ProxyConfig::default()
    });
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    (world, backend)
}

#[tokio::test]
async fn a_shutdown_lets_streams_end() {
    let (world, backend) = world_with(Timeouts::default()).await;
    let mut idle = world.client().await;
    assert_eq!(idle.get("/").await.body, "ok");
    let mut client = world.client().await;
    let (slow, _) = client.send(get("/slow"), true).await;
    let (stream, _) = client.send(get("/stream"), true).await;
    let (upload, mut sending) = client.send(request("POST", "/echo"), false).await;
    let mut stream = stream.await.unwrap().into_body();
    assert_eq!(next(&mut stream).await.unwrap(), "first");
    sending.send_data(Bytes::from("bo"), false).unwrap();
    backend.until_requests(4).await;

    let shutdown = tokio::spawn(world.serving.shutdown(LONG));
    // Who has nothing to wait for goes, and without an error.
    idle.connection.await.unwrap().unwrap();
    backend.open_gate(2);
    assert_eq!(answer(slow).await.unwrap().body, "ok");
    assert_eq!(next(&mut stream).await.unwrap(), "last");
    assert_eq!(next(&mut stream).await, None);
    assert!(!shutdown.is_finished());
    sending.send_data(Bytes::from("dy"), true).unwrap();
    assert_eq!(answer(upload).await.unwrap().body, "body");
    client.connection.await.unwrap().unwrap();
    assert!(shutdown.await.unwrap().is_complete());
}

/// RFC 9113, 6.8: first a GOAWAY that leaves nothing out, for what is on its way meanwhile.
#[tokio::test]
async fn no_request_is_lost_between_the_word_and_the_end() {
    let (world, backend) = world_with(Timeouts::default()).await;
    let mut raw = Raw::connect(&world.door).await;
    raw.send(&whole(1, &fields("GET", "/slow", &[]))).await;
    backend.until_requests(1).await;
    let shutdown = tokio::spawn(world.serving.shutdown(LONG));
    let first = raw.find(|frame| frame.kind == GOAWAY).await.unwrap();
    assert_eq!(
        (first.error(), &first.payload[..4]),
        (NO_ERROR, &[0x7f, 0xff, 0xff, 0xff][..])
    );
    let ping = raw.find(|frame| frame.kind == PING).await.unwrap();
    // It was sent before the client knew.
    raw.send(&whole(3, &fields("GET", "/", &[]))).await;
    raw.send(&frame(PING, 1, 0, ping.payload)).await;
    backend.open_gate(1);
    let (mut bodies, mut last) = (0, None);
    while let Some(frame) = raw.next().await {
        match frame.kind {
            GOAWAY => last = Some((frame.error(), frame.payload[3])),
            DATA => bodies += 1,
            HEADERS => {}
            kind => panic!("{kind}"),
        }
    }
    assert_eq!((bodies, last), (2, Some((NO_ERROR, 3))));
    assert!(shutdown.await.unwrap().is_complete());
}

/// Like one that is asleep.
#[tokio::test]
async fn a_client_that_does_not_answer_holds_up_no_shutdown() {
    let (world, _backend) = world_with(Timeouts::default()).await;
    let mut raw = Raw::connect(&world.door).await;
    assert!(raw.serves().await);
    let begun = Instant::now();
    let drained = world.serving.shutdown(LONG).await;
    assert!(drained.is_complete());
    assert!(begun.elapsed() < LONG / 2);
    drop(raw);
}

/// What a client has not taken may be all with the connection, and no request in flight.
#[tokio::test]
async fn a_shutdown_waits_for_a_client_that_reads_late() {
    let world = World::start();
    let mut raw = asked(&world, STREAMS).await;
    let shutdown = tokio::spawn(world.serving.shutdown(LONG));
    // Longer than a client has that waits for nothing.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut whole = 0;
    while let Some(frame) = raw.next().await {
        whole += u32::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
    }
    assert_eq!(whole, STREAMS);
    assert!(shutdown.await.unwrap().is_complete());
}

/// More than the kernel holds, together.
const STREAMS: u32 = 127;

/// A client with next to no room, who has asked for that many pages that are answered and not read.
async fn asked(world: &World, count: u32) -> Raw {
    let body = "x".repeat(60_000);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n{body}");
    world.route(saying(answer).await).await;
    let narrow = world.door.enter_narrowly().await;
    let mut raw = Raw::begin(narrow, &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    raw.send(&window_update(0, 1 << 30)).await;
    for number in 0..count {
        raw.send(&whole(2 * number + 1, &fields("GET", "/", &[])))
            .await;
    }
    world
        .until("all answered", |stats| {
            (stats.requests, stats.in_flight) == (u64::from(count), 0)
        })
        .await;
    raw
}

#[tokio::test]
async fn a_shutdown_waits_no_longer_than_it_may() {
    let (world, backend) = world_with(Timeouts::default()).await;
    let mut client = world.client().await;
    let (slow, _) = client.send(get("/slow"), true).await;
    backend.until_requests(1).await;
    let drained = world.serving.shutdown(Duration::from_millis(200)).await;
    assert_eq!(drained.left, 1);
    assert!(answer(slow).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_last_stream() {
    let keep_alive = Duration::from_secs(2);
    let (world, backend) = world_with(Timeouts {
        keep_alive,
        ..Timeouts::default()
    })
    .await;
    let mut client = world.client().await;
    let (slow, _) = client.send(get("/slow"), true).await;
    tokio::time::sleep(keep_alive * 3 / 2).await;
    assert!(!client.connection.is_finished(), "a stream is no idleness");
    backend.open_gate(1);
    assert_eq!(answer(slow).await.unwrap().body, "ok");
    let ended = tokio::time::timeout(LONG, client.connection).await;
    ended.unwrap().unwrap().unwrap();

    // One that keeps silent, and one that keeps the line busy.
    let mut silent = Raw::connect(&world.door).await;
    let mut busy = Raw::connect(&world.door).await;
    let busied = async {
        while busy.try_send(&frame(PING, 0, 0, [0; 8])).await.is_ok() {
            tokio::time::sleep(keep_alive / 20).await;
        }
    };
    let silenced = async { while silent.next().await.is_some() {} };
    tokio::time::timeout(LONG, async { tokio::join!(busied, silenced) })
        .await
        .unwrap();
    world
        .until("no connection", |stats| stats.connections == 0)
        .await;
}

/// One whose connections have next to no room, neither in the proxy's kernel nor in the client's,
/// and a client that has asked for more than that.
async fn crowded(keep_alive: Duration) -> (World, Raw) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Each connection inherits it.
    let socket = socket2::SockRef::from(&listener);
    socket.set_send_buffer_size(4096).unwrap();
    let config = ProxyConfig {
        timeouts: Timeouts {
            keep_alive,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    };
    let world = World::on(listener, config);
    let raw = asked(&world, CROWD).await;
    (world, raw)
}

const CROWD: u32 = 4;

#[tokio::test]
async fn a_connection_is_not_idle_while_its_client_takes_what_it_asked_for() {
    let keep_alive = Duration::from_millis(2400);
    let (_world, mut raw) = crowded(keep_alive).await;
    let mut whole = 0;
    while whole < CROWD {
        // All of it takes far longer than an idle connection has.
        tokio::time::sleep(keep_alive / 6).await;
        let frame = raw.next().await.expect("more");
        whole += u32::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
    }
}

#[tokio::test]
async fn it_is_idle_when_its_client_takes_nothing() {
    let (world, raw) = crowded(Duration::from_secs(2)).await;
    world
        .until("no connection", |stats| stats.connections == 0)
        .await;
    drop(raw);
}

#[tokio::test]
async fn no_keep_alive_at_all() {
    let (world, _backend) = world_with(Timeouts {
        keep_alive: Duration::ZERO,
        ..Timeouts::default()
    })
    .await;
    let mut client = world.client().await;
    assert_eq!(client.get("/").await.body, "ok");
    let ended = tokio::time::timeout(LONG, client.connection).await;
    ended.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_preface_that_does_not_come_is_not_awaited() {
    let (world, _backend) = world_with(Timeouts {
        header_read: Duration::from_millis(100),
        ..Timeouts::default()
    })
    .await;
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut raw = Raw::enter(&world.door).await;
        raw.send(said).await;
        while raw.next().await.is_some() {}
    }
    world
        .until("no connection", |stats| stats.connections == 0)
        .await;
}
