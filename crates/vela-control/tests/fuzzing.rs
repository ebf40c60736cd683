//! The targets of `fuzz/`, on what its corpus has and on a few thousand changes of that.

use vela_fuzzing::Suite;

const SUITE: Suite<'_> = Suite {
    corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"),
    targets: vela_control::fuzzing::TARGETS,
    pieces: PIECES,
};

/// How many changes of the corpus each target is given.
const CHANGES: usize = 3000;

#[test]
fn each_target_has_a_corpus() {
    SUITE.check_corpus();
}

#[test]
fn lines_of_answers() {
    SUITE.check("answer_lines", CHANGES);
}

#[test]
fn words_of_a_join() {
    // Some of them are as long as may be read.
    SUITE.check("join_word", CHANGES / 6);
}

#[test]
fn known_hosts() {
    SUITE.check("known_host", CHANGES);
}

#[test]
fn targets_of_requests() {
    SUITE.check("request_uri", CHANGES);
}

/// What parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\t",
    b"\n",
    b"\r",
    b" ",
    b"#",
    b"!",
    b"*",
    b"?",
    b",",
    b"/",
    b"%",
    b"%2F",
    b"%ff",
    b"%c3%a4",
    b"&lines=",
    b"=",
    b"+",
    b"\x80",
    b"\xff",
    b"{}",
    b"\"\\u0000\"",
    b"|1|",
    b"@revoked ",
    b"@cert-authority ",
    b"b2xk",
    b"bmV3",
    b"vela-join 1 ready\n",
    b"vela-join 1 absent ",
];
