//! What a client cannot make an upstream see: each case comes to nothing, or to exactly one request
//! with one end.

use crate::frames::*;
use crate::raw::{Raw, Reaction};
use crate::recorder::Recorder;
use crate::world::World;

/// A request of these fields, byte for byte.
fn ask(method: &[u8], scheme: &[u8], authority: &[u8], path: &[u8]) -> Vec<u8> {
    block(&[
        (&b":method"[..], method),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", path),
    ])
}

fn with(name: &str, value: &str) -> Vec<u8> {
    fields("GET", "/", &[(name, value)])
}

/// The upstream sees nothing of these.
#[tokio::test]
#[rustfmt::skip] // a table
async fn what_would_be_more_than_one_line_is_refused() {
    let world = World::start();
    let recorder = Recorder::start().await;
    world.route(recorder.addr).await;
    for (what, block) in [
        ("CRLF in a method", ask(b"GET / HTTP/1.1\r\nx: y\r\n", b"https", b"a.test", b"/")),
        ("a space in a method", ask(b"GET /admin", b"https", b"a.test", b"/")),
        ("an empty method", ask(b"", b"https", b"a.test", b"/")),
        ("CRLF in a path", ask(b"GET", b"https", b"a.test", b"/ HTTP/1.1\r\nx: y\r\n\r\nGET /")),
        ("LF in a path", ask(b"GET", b"https", b"a.test", b"/\nx: y")),
        ("CR in a path", ask(b"GET", b"https", b"a.test", b"/\rx: y")),
        ("NUL in a path", ask(b"GET", b"https", b"a.test", b"/\0")),
        ("a space in a path", ask(b"GET", b"https", b"a.test", b"/ HTTP/1.1")),
        ("a tab in a path", ask(b"GET", b"https", b"a.test", b"/\tHTTP/1.1")),
        ("a path that is a word", ask(b"GET", b"https", b"a.test", b"admin")),
        ("a path that begins with a query", ask(b"GET", b"https", b"a.test", b"?x")),
        ("a path with an authority", ask(b"GET", b"https", b"a.test", b"http://b.test/")),
        ("a path of another scheme", ask(b"GET", b"https", b"a.test", b"file:///etc/passwd")),
        ("an asterisk and more", ask(b"OPTIONS", b"https", b"a.test", b"*/x")),
        ("CRLF in an authority", ask(b"GET", b"https", b"a.test\r\nx: y", b"/")),
        ("a space in an authority", ask(b"GET", b"https", b"a.test b.test", b"/")),
        ("a path in an authority", ask(b"GET", b"https", b"a.test/x", b"/")),
        ("a query in an authority", ask(b"GET", b"https", b"a.test?x", b"/")),
        ("a user in an authority", ask(b"GET", b"https", b"b.test@a.test", b"/")),
        ("a user and a port", ask(b"GET", b"https", b"b.test:80@a.test", b"/")),
        ("a port that is none", ask(b"GET", b"https", b"a.test:http", b"/")),
        ("two authorities in one", ask(b"GET", b"https", b"a.test,b.test", b"/")),
        ("an empty authority", ask(b"GET", b"https", b"", b"/")),
        ("CRLF in a scheme", ask(b"GET", b"https\r\nx: y", b"a.test", b"/")),
        ("a scheme with an authority", ask(b"GET", b"https://b.test/?", b"a.test", b"/")),
        ("a scheme that is none", ask(b"GET", b"", b"a.test", b"/")),
        ("another scheme", ask(b"GET", b"gopher", b"a.test", b"/")),
        ("CRLF in a name", with("x: y\r\nz", "1")),
        ("LF in a name", with("x\nz", "1")),
        ("a colon in a name", with("x: y", "1")),
        ("NUL in a name", with("x\0", "1")),
        ("a name in upper case", with("Transfer-Encoding", "chunked")),
        ("a space before the colon", with("transfer-encoding ", "chunked")),
        ("CRLF in a value", with("x", "y\r\ntransfer-encoding: chunked")),
        ("LF in a value", with("x", "y\ntransfer-encoding: chunked")),
        ("CR in a value", with("x", "y\rz")),
        ("NUL in a value", with("x", "y\0z")),
        ("a whole request in a value", with("x", "y\r\n\r\nGET /admin HTTP/1.1\r\nhost: a.test\r\n\r\n")),
        ("CRLF in a cookie", with("cookie", "a=1\r\nx: y")),
        ("CRLF in a host", block(&[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "a.test\r\nx: y")])),
        ("a path in a host", block(&[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "a.test/x")])),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("connection", with("connection", "x-forwarded-for")),
        ("upgrade", with("upgrade", "h2c")),
        ("te", with("te", "chunked")),
        ("a length that is a list", with("content-length", "0, 0")),
        ("a length with a sign", with("content-length", "-0")),
        ("a length that is empty", with("content-length", "")),
        ("an expectation", fields("POST", "/", &[("expect", "200-ok")])),
    ] {
        let mut raw = Raw::connect(&world.door).await;
        raw.send(&whole(1, &block)).await;
        let reaction = raw.reaction(1).await;
        let is_refusal = match reaction {
            Reaction::Status(status) => [400, 404, 417].contains(&status),
            Reaction::None => false,
            _ => true,
        };
        assert!(is_refusal, "{what}: {reaction:?}");
        assert_eq!(recorder.take(), Vec::<String>::new(), "{what}");
    }
}

/// One request, and one end of it.
#[tokio::test]
#[rustfmt::skip] // a table
async fn what_is_odd_and_harmless_is_one_request() {
    let world = World::start();
    let recorder = Recorder::start().await;
    world.route(recorder.addr).await;
    let post = |more: &[(&str, &str)], body: &[u8]| {
        [begun(1, &fields("POST", "/", more)), last_data(1, body)].concat()
    };
    let smuggled = b"0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let with_length = smuggled.len().to_string();
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", smuggled.len(), std::str::from_utf8(smuggled).unwrap());
    for (what, sent, begin, end) in [
        // h2.TE without the field: the body is a chunk, whatever it says.
        ("a body that looks like the end of chunks", post(&[], smuggled), "POST / HTTP/1.1\r\n", chunk.as_str()),
        ("the same with its length", post(&[("content-length", &with_length)], smuggled), "POST / HTTP/1.1\r\n", std::str::from_utf8(smuggled).unwrap()),
        ("a length in disguise", post(&[("content_length", "3")], smuggled), "POST / HTTP/1.1\r\n", chunk.as_str()),
        ("a coding in disguise", post(&[("transfer_encoding", "identity")], smuggled), "POST / HTTP/1.1\r\n", chunk.as_str()),
        ("a length on GET", whole(1, &with("content-length", "0")), "GET / HTTP/1.1\r\n", "\r\n\r\n"),
        ("a plain scheme", whole(1, &ask(b"GET", b"http", b"a.test", b"/")), "GET / HTTP/1.1\r\n", "\r\n\r\n"),
        ("a fragment", whole(1, &ask(b"GET", b"https", b"a.test", b"/x#/../admin")), "GET /x HTTP/1.1\r\n", "\r\n\r\n"),
        ("two slashes", whole(1, &ask(b"GET", b"https", b"a.test", b"//b.test/")), "GET //b.test/ HTTP/1.1\r\n", "\r\n\r\n"),
        ("a method of its own", whole(1, &ask(b"PURGE", b"https", b"a.test", b"/")), "PURGE / HTTP/1.1\r\n", "\r\n\r\n"),
        ("claims", whole(1, &with("x-forwarded-for", "10.0.0.1")), "GET / HTTP/1.1\r\n", "\r\n\r\n"),
        ("a host beside the same authority", whole(1, &with("host", "a.test")), "GET / HTTP/1.1\r\n", "\r\n\r\n"),
        ("a name with an underscore", whole(1, &with("x_y", "1")), "GET / HTTP/1.1\r\n", "\r\n\r\n"),
        ("settings of an upgrade", whole(1, &with("http2-settings", "AAMAAABkAAQ")), "GET / HTTP/1.1\r\n", "\r\n\r\n"),
    ] {
        let mut raw = Raw::connect(&world.door).await;
        raw.send(&sent).await;
        assert_eq!(raw.reaction(1).await, Reaction::Status(200), "{what}");
        let mut requests = recorder.take();
        // The body may come behind the answer.
        while !requests.last().is_some_and(|one| one.ends_with(end)) {
            tokio::task::yield_now().await;
            let more = recorder.take();
            assert!(more.len() + requests.len() <= 2, "{what}: {requests:?} {more:?}");
            match requests.last_mut() {
                Some(last) => last.extend(more),
                None => requests = more,
            }
        }
        assert_eq!(requests.len(), 1, "{what}: {requests:?}");
        let request = requests[0].to_lowercase();
        assert!(requests[0].starts_with(begin), "{what}: {request}");
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(head.matches("\r\nhost: a.test").count(), 1, "{what}: {request}");
        let framings = head.matches("\r\ntransfer-encoding: chunked").count() + head.matches("\r\ncontent-length: ").count();
        assert!(framings == 1 || body.is_empty(), "{what}: {request}");
        for absent in ["transfer_encoding", "content_length", "10.0.0.1", "http2-settings", "\r\nupgrade:", "\r\nconnection:"] {
            assert!(!head.contains(absent), "{what}: {request}");
        }
    }
}

/// h2.CL: a length that is not the body's. Who reads less takes the rest for the next request.
#[tokio::test]
async fn a_length_that_is_not_the_bodys_smuggles_nothing() {
    let world = World::start();
    let recorder = Recorder::start().await;
    world.route(recorder.addr).await;
    let smuggled = b"GET /admin HTTP/1.1\r\nhost: a.test\r\n\r\n";
    for length in ["0", "5", "1000"] {
        for cuts in [1, smuggled.len()] {
            let mut raw = Raw::connect(&world.door).await;
            let head = fields("POST", "/", &[("content-length", length)]);
            raw.send(&begun(1, &head)).await;
            for piece in smuggled.chunks(smuggled.len() / cuts) {
                raw.send(&data(1, piece)).await;
            }
            raw.send(&last_data(1, b"")).await;
            let end = raw
                .find(|frame| matches!(frame.kind, RST_STREAM | GOAWAY))
                .await;
            assert_eq!(end.unwrap().error(), PROTOCOL_ERROR, "{length}");
            assert!(raw.serves().await);
            // The head may have gone on, and no more than its length behind it. No other request
            // may: the connection is closed.
            let length: usize = length.parse().unwrap();
            for one in recorder.take() {
                let (head, body) = one.split_once("\r\n\r\n").unwrap();
                let is_sentinel = head.starts_with("GET /sentinel ");
                assert!(is_sentinel || head.starts_with("POST / "), "{one}");
                assert!(body.len() <= if is_sentinel { 0 } else { length }, "{one}");
                assert!(
                    body.len() < smuggled.len() || length > smuggled.len(),
                    "{one}"
                );
            }
        }
    }
}

/// Trailers are no second head.
#[tokio::test]
async fn trailers_change_nothing() {
    let world = World::start();
    let recorder = Recorder::start().await;
    world.route(recorder.addr).await;
    let trailers = block(&[
        ("content-length", "3"),
        ("host", "b.test"),
        ("x-forwarded-for", "10.0.0.1"),
        ("authorization", "Basic x"),
        ("x-sum", "1"),
    ]);
    let mut raw = Raw::connect(&world.door).await;
    raw.send(&begun(1, &fields("POST", "/", &[]))).await;
    raw.send(&data(1, b"body")).await;
    raw.send(&whole(1, &trailers)).await;
    assert_eq!(raw.reaction(1).await, Reaction::Status(200));
    let mut got = String::new();
    while !got.ends_with("\r\n0\r\nauthorization: Basic x\r\nx-sum: 1\r\n\r\n") {
        assert!(!got.contains("\r\n0\r\n\r\n"), "{got}");
        tokio::task::yield_now().await;
        got.extend(recorder.take());
    }
    for line in ["transfer-encoding: chunked", "x-forwarded-for: 127.0.0.1"] {
        assert_eq!(got.matches(line).count(), 1, "{got}");
    }
    assert!(
        !got.contains("b.test") && !got.contains("10.0.0.1"),
        "{got}"
    );
}
