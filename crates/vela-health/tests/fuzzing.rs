//! The targets of `fuzz/`, on what its corpus has and on a few thousand changes of that.

use vela_fuzzing::Suite;

const SUITE: Suite<'_> = Suite {
    corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"),
    targets: vela_health::fuzzing::TARGETS,
    pieces: PIECES,
};

/// How many changes of the corpus each target is given.
const CHANGES: usize = 3000;

#[test]
fn each_target_has_a_corpus() {
    SUITE.check_corpus();
}

#[test]
fn redirects_of_an_instance() {
    SUITE.check("redirect", CHANGES);
}

#[test]
fn what_an_instance_says() {
    SUITE.check("shown", CHANGES);
}

/// What parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"\xff",
    b"/",
    b"//",
    b"?",
    b"#",
    b":",
    b"@",
    b" ",
    b"http:",
    b"HTTP://",
    b"https:",
    b"app.example:8080",
    b"evil.example",
    b"..",
    b"%",
];
