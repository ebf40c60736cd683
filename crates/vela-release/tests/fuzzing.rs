//! The target of `fuzz/`, on what its corpus has and on many changes of that.

use vela_fuzzing::Suite;

const SUITE: Suite<'_> = Suite {
    corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus"),
    targets: vela_release::fuzzing::TARGETS,
    pieces: PIECES,
};

#[test]
fn each_target_has_a_corpus() {
    SUITE.check_corpus();
}

#[test]
fn archives_that_others_have_packed() {
    // Each makes files.
    SUITE.check("upload", 500);
}

/// What parsers treat in a way of their own.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"/",
    b"./",
    b"../",
    b"..",
    b"/victim",
    b"../victim",
    b"app",
    b"d/",
    b"\xfe",
    b"\xff",
    b"\xfe0644\xffapp\xff\xffx",
    b"\xfe2777\xffl\xff..",
    b"\xfe1777\xffh\xffl",
    b"\xfe5755\xffd",
    b"\xfeL\xff\xff\xff../victim\0",
    b"\xfeK\xff\xff\xff/etc/passwd\0",
    b"\xfex\xff\xff\xff18 path=../victim\n",
    b"\xfex\xff\xff\xff12 size=600\n",
    b"\xfeg\xff\xff\xff",
    b"\xfe3\xffdevice",
    b"\xfe6\xffpipe",
    b"\xfeS\xffsparse",
    b"\xff\xff\xff512",
    b"\xff\xff\xff18446744073709551615",
    b"4755",
];
