//! The targets of `fuzz/`, on what its corpus has and on a few thousand changes of that.

use vela_fuzzing::Suite;

const SUITE: Suite<'_> = Suite {
    corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"),
    targets: vela_cli::fuzzing::TARGETS,
    pieces: PIECES,
};

/// How many changes of the corpus each target is given.
const CHANGES: usize = 3000;

#[test]
fn each_target_has_a_corpus() {
    SUITE.check_corpus();
}

#[test]
fn what_a_nats_server_says() {
    SUITE.check("nats_console", CHANGES);
}

#[test]
fn what_goes_to_a_terminal() {
    SUITE.check("terminal", CHANGES);
}

/// What parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\t",
    b"\r\n",
    b"\n",
    b" ",
    b"\xff",
    b"+OK\r\n",
    b"PING\r\n",
    b"PONG\r\n",
    b"-ERR '",
    b"MSG a 1 2\r\nhi\r\n",
    b"HMSG a 1 12 12\r\nNATS/1.0 503\r\n",
    b"18446744073709551615",
    b"67108865",
    b"-1",
    b"\x1b[",
    b"\x1b[1;31m",
    b"\x1b]0;",
    b"m",
    b"\xc2\x9b",
    b"\xe2\x80\xae",
];
