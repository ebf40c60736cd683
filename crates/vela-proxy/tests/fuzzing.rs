//! The targets of `fuzz/`, on what its corpus has and on a few thousand changes of that.

use vela_fuzzing::Suite;

const SUITE: Suite<'_> = Suite {
    corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"),
    targets: vela_proxy::fuzzing::TARGETS,
    pieces: PIECES,
};

/// How many changes of the corpus each target is given.
const CHANGES: usize = 3000;

#[test]
fn each_target_has_a_corpus() {
    SUITE.check_corpus();
}

#[test]
fn heads_of_requests() {
    SUITE.check("request_head", CHANGES);
}

#[test]
fn heads_of_responses() {
    SUITE.check("response_head", CHANGES);
}

#[test]
fn chunked_bodies() {
    SUITE.check("chunked", CHANGES);
}

#[test]
fn names() {
    SUITE.check("names", CHANGES);
}

#[test]
fn whole_connections() {
    SUITE.check("connection", CHANGES);
}

#[test]
fn heads_over_http2() {
    SUITE.check("http2_head", CHANGES);
}

#[test]
fn lines_of_the_access_log() {
    SUITE.check("log_line", CHANGES);
}

#[test]
fn pauses_that_an_authority_asks_for() {
    SUITE.check("retry_after", CHANGES);
}

/// What parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b",",
    b":",
    b";",
    b"/",
    b"*",
    b"[",
    b"\x7f",
    b"\x80",
    b"\xfe",
    b"\xff",
    b"0",
    b"9",
    b"ffff",
    b"HTTP/1.0",
    b"0\r\n\r\n",
    b"close",
    b"Host: a.test\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"/33",
    b"xn--",
    b"\xfehost:b.test",
    b"\xfecookie:a",
    b"http://b.test",
    b"+",
    b"GMT",
];
