//! The preface, frames in general, and the states of streams: RFC 9113, 3.4, 4 and 5.

use super::Wanted::{Connection, Nothing, Status, Stream};
use super::{case, check};
use crate::backend::Backend;
use crate::frames::*;
use crate::raw::{PREFACE, Raw, Reaction};
use crate::world::World;

fn get() -> Vec<u8> {
    whole(1, &fields("GET", "/", &[]))
}

/// A request that is not answered yet.
fn slow() -> Vec<u8> {
    whole(1, &fields("GET", "/slow", &[]))
}

fn post(path: &str) -> Vec<u8> {
    begun(1, &fields("POST", path, &[]))
}

fn sequence(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

#[tokio::test]
async fn a_connection_begins_with_the_preface() {
    let world = World::start();
    for (what, sent) in [
        (
            "another protocol",
            &b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"[..],
        ),
        ("nearly", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"),
        ("frames at once", &settings(&[])),
    ] {
        let mut raw = Raw::enter(&world.door).await;
        raw.send(sent).await;
        let first = raw.next().await.expect(what);
        assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
        let reaction = raw.reaction(0).await;
        let is_end = matches!(
            reaction,
            Reaction::Closed | Reaction::GoAway(PROTOCOL_ERROR)
        );
        assert!(is_end, "{what}: {reaction:?}");
    }
}

#[tokio::test]
async fn the_server_speaks_first_and_acknowledges_settings() {
    let world = World::start();
    let mut raw = Raw::enter(&world.door).await;
    let first = raw.next().await.unwrap();
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    let value = |name: u16| {
        let pair = |pair: &&[u8]| pair[..2] == name.to_be_bytes();
        let pair = first.payload.chunks(6).find(pair)?;
        Some(u32::from_be_bytes(pair[2..].try_into().unwrap()))
    };
    assert_eq!(value(8), Some(1), "ENABLE_CONNECT_PROTOCOL (RFC 8441, 3)");
    assert!(value(3).unwrap() >= 100, "MAX_CONCURRENT_STREAMS (5.1.2)");
    assert_eq!(value(6), Some(64 * 1024), "MAX_HEADER_LIST_SIZE");
    // Many settings, twice the same, and one that nobody knows (6.5.2).
    let wanted = settings(&[
        (INITIAL_WINDOW_SIZE, 1),
        (INITIAL_WINDOW_SIZE, 70_000),
        (MAX_FRAME_SIZE, 20_000),
        (0xfafa, 7),
    ]);
    raw.send(&[PREFACE, &wanted].concat()).await;
    let acknowledged = raw.find(|frame| frame.kind == SETTINGS).await.unwrap();
    assert_eq!((acknowledged.flags, acknowledged.payload.len()), (ACK, 0));
}

#[tokio::test]
async fn the_first_frame_is_settings() {
    let world = World::start();
    let mut raw = Raw::enter(&world.door).await;
    raw.send(&[PREFACE, &frame(PING, 0, 0, [7; 8])].concat())
        .await;
    raw.next().await.unwrap();
    // RFC 9113, 3.4, has a connection error of it; `h2` takes any frame. Nothing depends on it: what
    // the client does not set has its initial value.
    let answer = raw.find(|frame| frame.kind == PING).await.unwrap();
    assert_eq!((answer.flags, answer.payload), (ACK, vec![7; 8]));
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn frames_in_general() {
    let long = vec![b'x'; 16 * 1024 + 1];
    let full = vec![b'x'; 16 * 1024];
    let head = fields("GET", "/", &[]);
    let (front, back) = head.split_at(head.len() / 2);
    let in_two = |between: &[u8]| {
        let first = frame(HEADERS, END_STREAM, 1, front);
        let last = frame(CONTINUATION, END_HEADERS, 1, back);
        [&first, between, &last].concat()
    };
    check(vec![
        case("4.1", "a frame of no known type", sequence(&[frame(0xfa, 0xff, 0, *b"what"), get()]), Status(200)),
        case("4.1", "the same on a stream", frame(0xfa, 0, 1, *b"what"), Nothing),
        case("4.1", "flags that have no meaning", sequence(&[frame(PING, 0x16, 0, [0; 8]), get()]), Status(200)),
        case("4.1", "the reserved bit of a stream's number", frame(PING, 0, 1 << 31, [0; 8]), Nothing),
        case("4.2", "DATA as long as may be", sequence(&[post("/echo"), last_data(1, &full)]), Status(200)),
        case("4.2", "DATA that is too long", sequence(&[post("/echo"), data(1, &long)]), Stream(FRAME_SIZE_ERROR)),
        case("4.2", "HEADERS that are too long", whole(1, &fields("GET", "/", &[("x", std::str::from_utf8(&long).unwrap())])), Connection(FRAME_SIZE_ERROR)),
        case("4.2", "SETTINGS that are too long", frame(SETTINGS, 0, 0, vec![0; 16 * 1024 + 2]), Connection(FRAME_SIZE_ERROR)),
        case("4.3", "a block that is none", whole(1, &[0x40]), Connection(COMPRESSION_ERROR)),
        case("4.3", "a block in two frames", in_two(&[]), Status(200)),
        case("4.3", "PRIORITY within a block", in_two(&frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])), Connection(PROTOCOL_ERROR)),
        case("4.3", "HEADERS within a block", in_two(&whole(3, &head)), Connection(PROTOCOL_ERROR)),
        case("5.5", "an unknown frame within a block", in_two(&frame(0xfa, 0, 1, [])), Connection(PROTOCOL_ERROR)),
        case("5.5", "a setting that nobody knows", settings(&[(0xff, 1)]), Nothing),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn states_of_streams() {
    let head = fields("GET", "/", &[]);
    let rest = frame(CONTINUATION, END_HEADERS, 1, []);
    let gone = sequence(&[slow(), reset(1, CANCEL)]);
    let then = |first: &[u8], second: &[u8]| [first, second].concat();
    check(vec![
        case("5.1", "idle: DATA", data(1, b"x"), Connection(PROTOCOL_ERROR)),
        case("5.1", "idle: RST_STREAM", reset(1, CANCEL), Connection(PROTOCOL_ERROR)),
        case("5.1", "idle: WINDOW_UPDATE", window_update(1, 1), Connection(PROTOCOL_ERROR)),
        case("5.1", "idle: CONTINUATION", rest.clone(), Connection(PROTOCOL_ERROR)),
        case("5.1", "idle: PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1]), Nothing),
        case("5.1", "half-closed: DATA", then(&slow(), &data(1, b"x")), Stream(STREAM_CLOSED)),
        case("5.1", "half-closed: HEADERS", then(&slow(), &whole(1, &head)), Stream(STREAM_CLOSED)),
        case("5.1", "half-closed: CONTINUATION", then(&slow(), &rest), Connection(PROTOCOL_ERROR)),
        case("5.1", "half-closed: WINDOW_UPDATE", then(&slow(), &window_update(1, 1)), Nothing),
        case("5.1", "half-closed: PRIORITY", then(&slow(), &frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])), Nothing),
        case("5.1", "reset: DATA", then(&gone, &data(1, b"x")), Stream(STREAM_CLOSED)),
        case("5.1", "reset: HEADERS", then(&gone, &whole(1, &head)), Stream(STREAM_CLOSED)),
        case("5.1", "reset: CONTINUATION", then(&gone, &rest), Connection(PROTOCOL_ERROR)),
        case("5.1", "reset: WINDOW_UPDATE", then(&gone, &window_update(1, 1)), Nothing),
        case("5.1", "reset: RST_STREAM", then(&gone, &reset(1, CANCEL)), Nothing),
        case("5.1", "closed: DATA", data(1, b"x"), Stream(STREAM_CLOSED)).after(get()),
        case("5.1", "closed: HEADERS", whole(1, &head), Connection(STREAM_CLOSED)).after(get()),
        case("5.1", "closed: CONTINUATION", rest, Connection(PROTOCOL_ERROR)).after(get()),
        case("5.1", "closed: WINDOW_UPDATE", window_update(1, 1), Nothing).after(get()),
        case("5.1", "closed: RST_STREAM", reset(1, CANCEL), Nothing).after(get()),
        case("5.1", "closed: PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1]), Nothing).after(get()),
        case("5.1.1", "an even number", whole(2, &head), Connection(PROTOCOL_ERROR)).on(2),
        case("5.1.1", "a number below the last one", then(&whole(5, &fields("GET", "/slow", &[])), &whole(3, &head)), Connection(PROTOCOL_ERROR)).on(3),
        case("5.1.1", "no stream at all", whole(0, &head), Connection(PROTOCOL_ERROR)),
        case("5.1.1", "DATA below the last one, never opened", then(&whole(5, &fields("GET", "/slow", &[])), &data(3, b"x")), Connection(PROTOCOL_ERROR)).on(3),
    ])
    .await;
}

/// 5.1.2, and 8.7: what is refused has not been looked at.
#[tokio::test]
async fn no_more_streams_at_once_than_were_allowed() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut raw = Raw::connect(&world.door).await;
    let slow = fields("GET", "/slow", &[]);
    for number in 0..128 {
        raw.send(&whole(2 * number + 1, &slow)).await;
    }
    backend.until_requests(128).await;
    raw.send(&whole(257, &slow)).await;
    assert_eq!(raw.reaction(257).await, Reaction::Reset(REFUSED_STREAM));
    backend.open_gate(128);
    for _ in 0..128 {
        let answered = raw.find(|frame| frame.kind == HEADERS).await.unwrap();
        assert_eq!(status(&answered.payload), Some(200));
    }
    assert!(raw.serves().await);
    assert_eq!(backend.heads().len(), 129);
}
