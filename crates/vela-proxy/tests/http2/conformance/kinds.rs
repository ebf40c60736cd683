//! Each type of frame: RFC 9113, 6.

use super::Wanted::{Connection, Nothing, Status, Stream};
use super::{case, check};
use crate::backend::Backend;
use crate::frames::*;
use crate::raw::Raw;
use crate::world::World;

fn get() -> Vec<u8> {
    whole(1, &fields("GET", "/", &[]))
}

fn post() -> Vec<u8> {
    begun(1, &fields("POST", "/echo", &[]))
}

/// With as much padding as is said, or not.
fn padded(kind: u8, flags: u8, said: u8, content: &[u8], padding: usize) -> Vec<u8> {
    let payload = [&[said][..], content, &vec![0; padding]].concat();
    frame(kind, flags | PADDED, 1, payload)
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn data_frames() {
    let then = |frames: &[u8]| [&post()[..], frames].concat();
    check(vec![
        case("6.1", "on no stream", data(0, b"x"), Connection(PROTOCOL_ERROR)).on(0),
        case("6.1", "padded", then(&padded(DATA, END_STREAM, 9, b"body", 9)), Status(200)),
        case("6.1", "all padding", then(&padded(DATA, END_STREAM, 255, b"", 255)), Status(200)),
        case("6.1", "more padding than there is", then(&padded(DATA, END_STREAM, 6, b"body", 0)), Connection(PROTOCOL_ERROR)),
        case("6.1", "padding of a length that is missing", then(&frame(DATA, PADDED, 1, [])), Connection(FRAME_SIZE_ERROR)),
        case("6.1", "empty ones", then(&[data(1, b""), data(1, b""), last_data(1, b"")].concat()), Status(200)),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn headers_priority_and_push_promise() {
    let head = fields("GET", "/", &[]);
    let prioritised = |dependency: u32| {
        let payload = [&dependency.to_be_bytes()[..], &[255], &head].concat();
        frame(HEADERS, END_HEADERS | END_STREAM | PRIORITISED, 1, payload)
    };
    check(vec![
        case("6.2", "on no stream", whole(0, &head), Connection(PROTOCOL_ERROR)),
        case("6.2", "padded", padded(HEADERS, END_HEADERS | END_STREAM, 7, &head, 7), Status(200)),
        case("6.2", "more padding than there is", padded(HEADERS, END_HEADERS | END_STREAM, 255, &head, 0), Connection(PROTOCOL_ERROR)),
        case("6.2", "with a priority", prioritised(0), Status(200)),
        case("6.2", "that depend on an unknown stream", prioritised(77), Status(200)),
        // Deprecated, and once a stream error (RFC 7540, 5.3.1).
        case("6.2", "that depend on themselves", prioritised(1), Stream(PROTOCOL_ERROR)),
        case("6.3", "PRIORITY on no stream", frame(PRIORITY, 0, 0, [0, 0, 0, 0, 1]), Connection(PROTOCOL_ERROR)),
        case("6.3", "PRIORITY of four bytes", frame(PRIORITY, 0, 1, [0; 4]), Stream(FRAME_SIZE_ERROR)),
        case("6.3", "PRIORITY on a stream in use", [get(), frame(PRIORITY, 0, 1, [128, 0, 0, 9, 1])].concat(), Status(200)),
        case("6.6", "PUSH_PROMISE from a client", [post(), frame(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &head].concat())].concat(), Connection(PROTOCOL_ERROR)),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn rst_stream_settings_ping_and_goaway() {
    check(vec![
        case("6.4", "RST_STREAM on no stream", reset(0, CANCEL), Connection(PROTOCOL_ERROR)),
        case("6.4", "RST_STREAM of three bytes", [post(), frame(RST_STREAM, 0, 1, [0; 3])].concat(), Connection(FRAME_SIZE_ERROR)),
        case("6.4", "RST_STREAM with an unknown error", [post(), reset(1, 0xffff)].concat(), Nothing),
        case("6.5", "an acknowledgement that says more", frame(SETTINGS, ACK, 0, [0; 6]), Connection(FRAME_SIZE_ERROR)),
        case("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, []), Connection(PROTOCOL_ERROR)),
        case("6.5", "SETTINGS of three bytes", frame(SETTINGS, 0, 0, [0; 3]), Connection(FRAME_SIZE_ERROR)),
        case("6.5.2", "ENABLE_PUSH of 2", settings(&[(ENABLE_PUSH, 2)]), Connection(PROTOCOL_ERROR)),
        case("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), Connection(FLOW_CONTROL_ERROR)),
        case("6.5.2", "MAX_FRAME_SIZE below 2^14", settings(&[(MAX_FRAME_SIZE, 16_383)]), Connection(PROTOCOL_ERROR)),
        case("6.5.2", "MAX_FRAME_SIZE of 2^24", settings(&[(MAX_FRAME_SIZE, 1 << 24)]), Connection(PROTOCOL_ERROR)),
        case("6.5.2", "a table of no bytes", [settings(&[(HEADER_TABLE_SIZE, 0)]), get()].concat(), Status(200)),
        case("6.5.2", "a table of very many bytes", [settings(&[(HEADER_TABLE_SIZE, u32::MAX)]), get()].concat(), Status(200)),
        case("RFC 8441, 3", "ENABLE_CONNECT_PROTOCOL of 2", settings(&[(8, 2)]), Connection(PROTOCOL_ERROR)),
        case("6.5.3", "an acknowledgement of nothing", frame(SETTINGS, ACK, 0, []), Connection(PROTOCOL_ERROR)),
        case("6.7", "an answer to no PING", frame(PING, ACK, 0, [1; 8]), Nothing),
        case("6.7", "PING on a stream", frame(PING, 0, 1, [0; 8]), Connection(PROTOCOL_ERROR)),
        case("6.7", "PING of six bytes", frame(PING, 0, 0, [0; 6]), Connection(FRAME_SIZE_ERROR)),
        case("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, [0; 8]), Connection(PROTOCOL_ERROR)),
        case("6.8", "GOAWAY of seven bytes", frame(GOAWAY, 0, 0, [0; 7]), Connection(FRAME_SIZE_ERROR)),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn window_update_and_continuation() {
    let head = fields("GET", "/", &[]);
    let third = head.len() / 3;
    let begin = frame(HEADERS, END_STREAM, 1, &head[..third]);
    let middle = frame(CONTINUATION, 0, 1, &head[third..2 * third]);
    let end = frame(CONTINUATION, END_HEADERS, 1, &head[2 * third..]);
    let then = |frames: &[u8]| [&post()[..], frames].concat();
    check(vec![
        case("6.9", "a window larger by nothing", window_update(0, 0), Connection(PROTOCOL_ERROR)),
        case("6.9", "a stream's window larger by nothing", then(&window_update(1, 0)), Stream(PROTOCOL_ERROR)),
        case("6.9", "WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, [0; 3]), Connection(FRAME_SIZE_ERROR)),
        case("6.9.1", "a window of 2^31", window_update(0, (1 << 31) - 1), Connection(FLOW_CONTROL_ERROR)),
        case("6.9.1", "a stream's window of 2^31", then(&window_update(1, (1 << 31) - 1)), Stream(FLOW_CONTROL_ERROR)),
        case("6.9.2", "windows of 2^31 by settings", then(&[window_update(1, (1 << 31) - 65_536), settings(&[(INITIAL_WINDOW_SIZE, 65_537)])].concat()), Connection(FLOW_CONTROL_ERROR)),
        case("6.10", "several", [&begin[..], &middle, &frame(CONTINUATION, 0, 1, []), &end].concat(), Status(200)),
        case("6.10", "on no stream", [&begin[..], &frame(CONTINUATION, END_HEADERS, 0, [])].concat(), Connection(PROTOCOL_ERROR)),
        case("6.10", "on another stream", [&begin[..], &frame(CONTINUATION, END_HEADERS, 3, &head[third..])].concat(), Connection(PROTOCOL_ERROR)),
        case("6.10", "behind an end", then(&end), Connection(PROTOCOL_ERROR)),
        case("6.10", "behind DATA", then(&[data(1, b"x"), end.clone()].concat()), Connection(PROTOCOL_ERROR)),
        case("6.10", "DATA in its place", [&begin[..], &data(1, b"x")].concat(), Connection(PROTOCOL_ERROR)),
    ])
    .await;
}

/// 6.7.
#[tokio::test]
async fn a_ping_comes_back() {
    let world = World::start();
    let mut raw = Raw::connect(&world.door).await;
    for number in 0..9 {
        raw.send(&frame(PING, 0, 0, [number; 8])).await;
        let answer = raw.find(|frame| frame.kind == PING).await.unwrap();
        assert_eq!((answer.flags, answer.stream), (ACK, 0));
        assert_eq!(answer.payload, [number; 8]);
    }
}

/// 6.8: a client that goes away gets its answers.
#[tokio::test]
async fn what_was_asked_before_a_goaway_is_answered() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut raw = Raw::connect(&world.door).await;
    raw.send(&whole(1, &fields("GET", "/slow", &[]))).await;
    backend.until_requests(1).await;
    raw.send(&frame(GOAWAY, 0, 0, [0; 8])).await;
    backend.open_gate(1);
    let answer = raw.find(|frame| frame.kind == HEADERS).await.unwrap();
    assert_eq!(status(&answer.payload), Some(200));
    let body = raw.find(|frame| frame.kind == DATA).await.unwrap();
    assert_eq!(body.payload, b"ok");
    while raw.next().await.is_some() {}
}
