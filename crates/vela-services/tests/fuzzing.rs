//! The targets of `fuzz/`, on what its corpus has and on a few thousand changes of that.

use vela_fuzzing::Suite;

const SUITE: Suite<'_> = Suite {
    corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"),
    targets: vela_services::fuzzing::TARGETS,
    pieces: PIECES,
};

/// How many changes of the corpus each target is given.
const CHANGES: usize = 3000;

#[test]
fn each_target_has_a_corpus() {
    SUITE.check_corpus();
}

#[test]
fn answers_of_a_nats_server() {
    SUITE.check("nats_answer", CHANGES);
}

#[test]
fn the_first_line_of_a_nats_server() {
    SUITE.check("nats_hello", CHANGES);
}

/// What parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\xff",
    b" ",
    b"+",
    b"-",
    b".",
    b"1.",
    b"99999999999",
    b"HTTP/1.0 ",
    b"200",
    b"{}",
    b"\"version\":\"3\"",
    b"INFO ",
];
