//! Requests as messages: RFC 9113, 8.

use super::Wanted::{Connection, Status, Stream};
use super::{Case, case, check};
use crate::frames::*;

/// A request with these fields alone.
fn asking(section: &'static str, what: &'static str, fields: &[(&str, &str)]) -> Case {
    case(
        section,
        what,
        whole(1, &block(fields)),
        Stream(PROTOCOL_ERROR),
    )
}

/// A request that is sound but for these fields behind it.
fn adding(section: &'static str, what: &'static str, more: &[(&str, &str)]) -> Case {
    let sent = whole(1, &fields("GET", "/", more));
    case(section, what, sent, Stream(PROTOCOL_ERROR))
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn fields_of_requests() {
    let method = (":method", "GET");
    let scheme = (":scheme", "https");
    let authority = (":authority", "a.test");
    let path = (":path", "/");
    check(vec![
        adding("8.2.1", "an upper-case name", &[("X-Name", "1")]),
        adding("8.2.1", "a name with a space", &[("x name", "1")]),
        adding("8.2.1", "a name with a colon", &[("x:name", "1")]),
        adding("8.2.1", "a name with a line's end", &[("x\r\nname", "1")]),
        adding("8.2.1", "an empty name", &[("", "1")]),
        adding("8.2.1", "a value with a line's end", &[("x", "1\r\ny: 2")]),
        adding("8.2.1", "a value with a line feed", &[("x", "1\ny: 2")]),
        adding("8.2.1", "a value with a NUL", &[("x", "1\0")]),
        adding("8.2.1", "a value that begins with a space", &[("x", " 1")]),
        adding("8.2.1", "a value that ends with a tab", &[("x", "1\t")]),
        adding("8.2.2", "connection", &[("connection", "keep-alive")]),
        adding("8.2.2", "keep-alive", &[("keep-alive", "1")]),
        adding("8.2.2", "proxy-connection", &[("proxy-connection", "close")]),
        adding("8.2.2", "transfer-encoding", &[("transfer-encoding", "chunked")]),
        adding("8.2.2", "upgrade", &[("upgrade", "websocket")]),
        adding("8.2.2", "te other than trailers", &[("te", "trailers, deflate;q=0.5")]),
        case("8.2.2", "te: trailers", whole(1, &fields("GET", "/", &[("te", "trailers")])), Status(200)),
        asking("8.3", "an unknown pseudo-header", &[method, scheme, authority, path, (":test", "1")]),
        asking("8.3", "one of responses", &[method, scheme, authority, path, (":status", "200")]),
        asking("8.3", "one behind a field", &[method, scheme, authority, ("x", "1"), path]),
        asking("8.3.1", "no method", &[scheme, authority, path]),
        asking("8.3.1", "no scheme", &[method, authority, path]),
        asking("8.3.1", "no path", &[method, scheme, authority]),
        asking("8.3.1", "an empty path", &[method, scheme, authority, (":path", "")]),
        asking("8.3.1", "two methods", &[method, method, scheme, authority, path]),
        asking("8.3.1", "two schemes", &[method, scheme, scheme, authority, path]),
        asking("8.3.1", "two paths", &[method, scheme, authority, path, path]),
        asking("8.3.1", "two authorities", &[method, scheme, authority, authority, path]),
        asking("8.3.1", "no authority and no host", &[method, scheme, path]),
        asking("8.3.1", "an authority with a user", &[method, scheme, (":authority", "me@a.test"), path]),
        asking("8.3.1", "an authority and another host", &[method, scheme, authority, path, ("host", "b.test")]),
        asking("8.3.1", "a path that is a word", &[method, scheme, authority, (":path", "x")]),
        asking("8.3.1", "a path in absolute form", &[method, scheme, authority, (":path", "https://b.test/")]),
        asking("8.3.1", "an asterisk without OPTIONS", &[method, scheme, authority, (":path", "*")]),
        asking("8.5", "CONNECT with a path", &[(":method", "CONNECT"), authority, path]),
        asking("8.5", "CONNECT with a scheme", &[(":method", "CONNECT"), authority, scheme]),
        asking("RFC 8441, 4", "a protocol without CONNECT", &[method, scheme, authority, path, (":protocol", "websocket")]),
        asking("RFC 8441, 4", "a protocol without a path", &[(":method", "CONNECT"), scheme, authority, (":protocol", "websocket")]),
        case("8.5", "CONNECT", begun(1, &block(&[(":method", "CONNECT"), (":authority", "a.test:443")])), Status(501)),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn bodies_and_trailers() {
    let posting = |length: &str, rest: &[Vec<u8>]| {
        let head = begun(1, &fields("POST", "/deaf", &[("content-length", length)]));
        [&head[..], &rest.concat()].concat()
    };
    let open = begun(1, &fields("POST", "/echo", &[]));
    let trailing = |flags: u8, fields: &[(&str, &str)]| {
        let trailers = frame(HEADERS, END_HEADERS | flags, 1, block(fields));
        [&open[..], &data(1, b"body"), &trailers].concat()
    };
    check(vec![
        case("8.1", "HEADERS in the middle", trailing(0, &[("x", "1")]), Stream(PROTOCOL_ERROR)),
        case("8.1", "trailers", trailing(END_STREAM, &[("x", "1")]), Status(200)),
        case("8.1", "trailers with a pseudo-header", trailing(END_STREAM, &[(":path", "/")]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "less than its length", posting("5", &[last_data(1, b"four")]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "less in two frames", posting("5", &[data(1, b"fo"), last_data(1, b"ur")]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "more than its length", posting("3", &[last_data(1, b"four")]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "more in two frames", posting("3", &[data(1, b"fo"), data(1, b"ur")]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "a length without a body", whole(1, &fields("POST", "/deaf", &[("content-length", "1")])), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "less, and trailers", posting("5", &[data(1, b"four"), frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&[("x", "1")]))]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "a length that is no number", posting("x", &[last_data(1, b"four")]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "a length with a sign", posting("+4", &[last_data(1, b"four")]), Stream(PROTOCOL_ERROR)),
        case("8.1.1", "two lengths", begun(1, &fields("POST", "/deaf", &[("content-length", "4"), ("content-length", "5")])), Stream(PROTOCOL_ERROR)),
        case("8.4", "a push that nobody may promise", [&open[..], &frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 3])].concat(), Connection(PROTOCOL_ERROR)),
    ])
    .await;
}
