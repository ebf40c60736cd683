//! Clients that are out for harm: others are served meanwhile, and the proxy's memory has an end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::LONG;
use crate::backend::Backend;
use crate::client::{Client, get};
use crate::frames::*;
use crate::process::Process;
use crate::raw::{Raw, Reaction};
use crate::world::{Door, World, saying};

/// How much more memory a proxy may have had, in KiB: it has two workers, and one connection that
/// attacks.
const MOST: usize = 24 * 1024;

/// Attacks a proxy in a process of its own.
async fn survives(attack: impl AsyncFn(&Door)) {
    let backend = Backend::start("ok").await;
    survives_before(backend.addr, MOST, attack).await;
}

async fn survives_before(upstream: SocketAddr, most: usize, attack: impl AsyncFn(&Door)) {
    let process = Process::start(upstream);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(&process.door).await;
        assert_eq!(client.get("/").await.body, "ok");
        clients.push(client);
    }
    let before = process.memory();
    let is_over = Cell::new(false);
    let attacking = async {
        attack(&process.door).await;
        is_over.set(true);
    };
    let beside = clients.into_iter().map(async |mut client| {
        let mut served = 0;
        while !is_over.get() || served == 0 {
            let answer = client.ask(get("/"), None).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
            served += 1;
        }
    });
    tokio::join!(attacking, futures::future::join_all(beside));
    let grown = process.memory() - before;
    assert!(grown < most, "{grown} KiB more");
}

/// Sends, and reads nothing, until the other side ends or takes no more.
async fn flood(door: &Door, bytes: &[u8], times: usize) {
    let mut raw = Raw::connect(door).await;
    for _ in 0..times {
        let sent = timeout(Duration::from_secs(1), raw.try_send(bytes)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// CVE-2023-44487.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    survives(async |door| {
        let head = fields("GET", "/slow", &[]);
        for _ in 0..5 {
            let mut raw = Raw::connect(door).await;
            let mut number = 1;
            while raw
                .try_send(&[whole(number, &head), reset(number, CANCEL)].concat())
                .await
                .is_ok()
            {
                number += 2;
                assert!(number < 1_000_000, "not ended");
            }
        }
    })
    .await;
}

/// The same so slowly that each request is looked at.
#[tokio::test]
async fn requests_that_are_always_left_end_the_connection() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    for leaving in [
        reset as fn(u32, u32) -> Vec<u8>,
        // So that the proxy resets it (CVE-2025-8671).
        |stream, _| window_update(stream, (1 << 31) - 1),
    ] {
        let mut raw = Raw::connect(&world.door).await;
        let begun = backend.heads().len();
        let mut number = 1;
        let end = loop {
            raw.send(&whole(number, &fields("GET", "/slow", &[]))).await;
            raw.send(&leaving(number, CANCEL)).await;
            raw.send(&frame(PING, 0, 0, [0; 8])).await;
            let next = raw.find(|frame| matches!(frame.kind, PING | GOAWAY)).await;
            match next {
                Some(frame) if frame.kind == PING => number += 2,
                end => break end,
            }
            assert!(number < 10_000, "not ended");
        };
        assert_eq!(end.unwrap().error(), ENHANCE_YOUR_CALM);
        let asked = backend.heads().len() - begun;
        assert!(asked < 300, "{asked}");
    }
}

/// A page that changes its mind is no attack.
#[tokio::test]
async fn some_may_be_left() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut raw = Raw::connect(&world.door).await;
    let mut number = 1;
    for _ in 0..300 {
        for _ in 0..2 {
            raw.send(&whole(number, &fields("GET", "/", &[]))).await;
            assert_eq!(raw.reaction(number).await, Reaction::Status(200));
            number += 2;
        }
        raw.send(&whole(number, &fields("GET", "/slow", &[]))).await;
        raw.send(&reset(number, CANCEL)).await;
        number += 2;
    }
}

#[tokio::test]
async fn headers_without_end() {
    survives(async |door| {
        let begin = frame(HEADERS, END_STREAM, 1, fields("GET", "/", &[]));
        let field = block(&[("x", "y".repeat(1000))]);
        for more in [
            Vec::new(),
            field.clone(),
            field.repeat(16),
            vec![0, 0x7f, 0xff, 0xff, 0x7f],
        ] {
            let mut raw = Raw::connect(door).await;
            raw.send(&begin).await;
            for _ in 0..10_000 {
                if raw
                    .try_send(&frame(CONTINUATION, 0, 1, more.clone()))
                    .await
                    .is_err()
                {
                    break;
                }
            }
            let reaction = raw.reaction(1).await;
            let is_end = matches!(reaction, Reaction::GoAway(_) | Reaction::Closed);
            assert!(is_end, "{reaction:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn control_frames_without_end() {
    survives(async |door| {
        let priority = frame(PRIORITY, 0, 77, [0, 0, 0, 0, 1]);
        for flooding in [
            settings(&[(INITIAL_WINDOW_SIZE, 1000)]),
            settings(&[(HEADER_TABLE_SIZE, 1), (HEADER_TABLE_SIZE, 4096)]),
            frame(PING, 0, 0, [0; 8]),
            frame(PING, ACK, 0, [0; 8]),
            priority,
            frame(0xfa, 0, 0, [0; 100]),
            reset(1, CANCEL),
        ] {
            // A stream that is there and goes, for what is about one.
            let sent = [flooding.repeat(1000)].concat();
            let mut raw = Raw::connect(door).await;
            raw.send(&whole(1, &fields("GET", "/", &[]))).await;
            assert_eq!(raw.reaction(1).await, Reaction::Status(200));
            flood(door, &sent, 100).await;
        }
        // No overflow: each takes away what the one before gave.
        flood(door, &window_update(0, 1).repeat(1000), 100).await;
    })
    .await;
}

#[tokio::test]
async fn empty_and_small_data_without_end() {
    survives(async |door| {
        for (payload, padding) in [(&b""[..], 0), (b"x", 0), (b"", 200)] {
            let piece = match padding {
                0 => data(1, payload),
                length => frame(
                    DATA,
                    PADDED,
                    1,
                    [vec![length], vec![0; usize::from(length)]].concat(),
                ),
            };
            let piece = piece.repeat(1000);
            let mut raw = Raw::connect(door).await;
            raw.send(&begun(1, &fields("POST", "/deaf", &[]))).await;
            for _ in 0..100 {
                if timeout(LONG, raw.try_send(&piece)).await.unwrap().is_err() {
                    break;
                }
            }
            let reaction = raw.reaction_or_none(1).await;
            let is_ended = matches!(reaction, Reaction::GoAway(_) | Reaction::Closed);
            // What brings something in may be a body, however small its pieces are.
            assert!(is_ended || !payload.is_empty(), "{padding}: {reaction:?}");
        }
    })
    .await;
}

/// A field that is kept once and named again and again costs the client a byte each time.
#[tokio::test]
async fn header_bombs() {
    survives(async |door| {
        let large = "y".repeat(3900);
        let mut kept = fields("GET", "/", &[]);
        // A literal that is remembered.
        kept.push(0x40);
        kept.extend(&block(&[("x", &large)])[1..]);
        for times in [10, 40, 16_000] {
            let mut raw = Raw::connect(door).await;
            let bomb = [&kept[..], &vec![0xbe; times]].concat();
            let mut sent = Vec::new();
            let mut kind = HEADERS;
            let mut pieces = bomb.chunks(16_000).peekable();
            while let Some(piece) = pieces.next() {
                let end = if pieces.peek().is_none() {
                    END_HEADERS
                } else {
                    0
                };
                let stream_end = if kind == HEADERS { END_STREAM } else { 0 };
                sent.extend(frame(kind, end | stream_end, 1, piece));
                kind = CONTINUATION;
            }
            raw.send(&sent).await;
            let reaction = raw.reaction(1).await;
            match times {
                10 => assert_eq!(reaction, Reaction::Status(200)),
                40 => assert_eq!(reaction, Reaction::Status(431)),
                _ => assert_eq!(reaction, Reaction::GoAway(ENHANCE_YOUR_CALM)),
            }
        }
        // Without a trick, and over the limit by little: an answer, and the connection stays.
        let mut raw = Raw::connect(door).await;
        for (number, length) in [(1, 66_000), (3, 60_000)] {
            let head = fields("GET", "/", &[("x", &"y".repeat(length))]);
            let mut sent = frame(HEADERS, END_STREAM, number, &head[..16_000]);
            let mut pieces = head[16_000..].chunks(16_000).peekable();
            while let Some(piece) = pieces.next() {
                let end = if pieces.peek().is_none() {
                    END_HEADERS
                } else {
                    0
                };
                sent.extend(frame(CONTINUATION, end, number, piece));
            }
            raw.send(&sent).await;
            let status = if length > 65_536 { 431 } else { 200 };
            assert_eq!(
                raw.reaction(number).await,
                Reaction::Status(status),
                "{length}"
            );
        }
    })
    .await;
}

/// Responses of 8 MiB to a client that takes none of them.
#[tokio::test]
async fn windows_that_stay_shut() {
    let body = "x".repeat(8 * 1024 * 1024);
    let large = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let large = saying(large).await;
    // The clients beside get the same, and have to read it.
    let process = Process::start(large);
    let before = process.memory();
    let mut raw = Raw::connect_with(&process.door, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for number in 0..128 {
        raw.send(&whole(2 * number + 1, &fields("GET", "/", &[])))
            .await;
    }
    for _ in 0..128 {
        raw.find(|frame| frame.kind == HEADERS).await.unwrap();
    }
    // Another opens them a byte at a time.
    let mut narrow = Raw::begin(
        process.door.enter_narrowly().await,
        &[(INITIAL_WINDOW_SIZE, 1)],
    )
    .await;
    for number in 0..128 {
        narrow
            .send(&whole(2 * number + 1, &fields("GET", "/", &[])))
            .await;
    }
    for _ in 0..10 {
        for number in 0..128 {
            narrow.send(&window_update(2 * number + 1, 1)).await;
        }
    }
    let mut client = Client::connect(&process.door).await;
    assert!(client.get("/").await.body == body);
    let grown = process.memory() - before;
    assert!(grown < 2 * 128 * 100 + MOST, "{grown} KiB more");
}

/// Bodies that nobody reads, on as many streams as may be.
#[tokio::test]
async fn uploads_that_nobody_reads() {
    survives(async |door| {
        let mut raw = Raw::connect(door).await;
        for number in 0..127 {
            raw.send(&begun(2 * number + 1, &fields("POST", "/deaf", &[])))
                .await;
        }
        // As much as the windows allow at first.
        for number in 0..64 {
            raw.send(&data(2 * number + 1, &[0; 16_000])).await;
        }
        assert!(raw.serves().await);
    })
    .await;
}
