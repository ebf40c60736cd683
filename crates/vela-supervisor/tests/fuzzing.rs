//! The targets of `fuzz/`, on what its corpus has and on a few thousand changes of that.

use vela_fuzzing::Suite;

const SUITE: Suite<'_> = Suite {
    corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"),
    targets: vela_supervisor::fuzzing::TARGETS,
    pieces: PIECES,
};

/// How many changes of the corpus each target is given.
const CHANGES: usize = 3000;

#[test]
fn each_target_has_a_corpus() {
    SUITE.check_corpus();
}

#[test]
fn what_shims_and_supervisors_say() {
    SUITE.check("shim_wire", CHANGES);
}

/// What parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"{",
    b"}",
    b"null",
    b"[]",
    b"-1",
    b"1e9",
    b"18446744073709551615",
    b"4294967295",
    b"{\"v\":1,\"body\":{\"signal\":\"HUP\"}}\n",
    b"\"v\":2,",
    b"\"\\u000a\"",
];
