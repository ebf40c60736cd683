//! Flow control: RFC 9113, 5.2 and 6.9.

use crate::backend::Backend;
use crate::frames::*;
use crate::raw::{Raw, Reaction};
use crate::world::{World, saying};

async fn world_with(body: &str) -> World {
    let world = World::start();
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    world.route(saying(answer).await).await;
    world
}

/// The next DATA, and that nothing follows but what a PING is answered with.
async fn piece(raw: &mut Raw) -> Vec<u8> {
    raw.find(|frame| frame.kind == DATA).await.unwrap().payload
}

#[tokio::test]
async fn no_more_is_sent_than_the_windows_allow() {
    let world = world_with("0123456789").await;
    let mut raw = Raw::connect_with(&world.door, &[(INITIAL_WINDOW_SIZE, 1)]).await;
    raw.send(&whole(1, &fields("GET", "/", &[]))).await;
    assert_eq!(piece(&mut raw).await, b"0");
    raw.send(&window_update(1, 3)).await;
    assert_eq!(piece(&mut raw).await, b"123");
    // The settings change what is open already (6.9.2): four bytes were allowed, and now three are.
    raw.send(&settings(&[(INITIAL_WINDOW_SIZE, 0)])).await;
    raw.send(&window_update(1, 1)).await;
    raw.send(&frame(PING, 0, 0, [9; 8])).await;
    let next = raw
        .find(|frame| frame.kind == DATA || frame.kind == PING)
        .await;
    assert_eq!(next.unwrap().kind, PING, "the window is not larger than 0");
    raw.send(&settings(&[(INITIAL_WINDOW_SIZE, 65_535)])).await;
    assert_eq!(piece(&mut raw).await, b"456789");
}

#[tokio::test]
async fn all_streams_share_the_connections_window() {
    let body = "x".repeat(65_535);
    let world = world_with(&body).await;
    let mut raw = Raw::connect_with(&world.door, &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    let get = fields("GET", "/", &[]);
    raw.send(&whole(1, &get)).await;
    let mut got = 0;
    while got < body.len() {
        got += piece(&mut raw).await.len();
    }
    raw.send(&whole(3, &get)).await;
    raw.find(|frame| frame.kind == HEADERS && frame.stream == 3)
        .await
        .unwrap();
    raw.send(&frame(PING, 0, 0, [9; 8])).await;
    let next = raw
        .find(|frame| frame.kind == DATA && !frame.payload.is_empty() || frame.kind == PING)
        .await;
    assert_eq!(next.unwrap().kind, PING);
    raw.send(&window_update(0, 5)).await;
    assert_eq!(piece(&mut raw).await, b"xxxxx");
}

/// 6.9: what goes beyond a window is an error of who sent it.
#[tokio::test]
async fn no_more_is_taken_than_the_windows_allow() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let piece = vec![0; 16 * 1024];
    let post = |stream: u32| {
        begun(
            stream,
            &fields("POST", "/deaf", &[("content-length", "99999999")]),
        )
    };
    let mut raw = Raw::connect(&world.door).await;
    raw.send(&post(1)).await;
    backend.until_requests(1).await;
    // The upstream does not read: sooner or later neither does the proxy.
    let mut reaction = None;
    for _ in 0..10_000 {
        raw.send(&data(1, &piece)).await;
        raw.send(&frame(PING, 0, 0, [0; 8])).await;
        let next = raw
            .find(|frame| matches!(frame.kind, PING | GOAWAY | RST_STREAM))
            .await
            .unwrap();
        if next.kind != PING {
            reaction = Some((next.kind, next.error()));
            break;
        }
    }
    assert_eq!(reaction, Some((RST_STREAM, FLOW_CONTROL_ERROR)));
    assert_ne!(raw.reaction_or_none(1).await, Reaction::Closed);
}
