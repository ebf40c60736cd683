//! The targets of `fuzz/`, on what its corpus has and on a few thousand changes of that. What a
//! fuzzer has found lies in the corpus too, so that it is never forgotten.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

use std::panic::catch_unwind;
use std::path::Path;

use vela_proxy::fuzzing::{TARGETS, run};

const SEED: u64 = 1;
/// How many changes of the corpus each target is given.
const CHANGES: usize = 3000;

#[test]
fn each_target_has_a_corpus() {
    let corpus = std::fs::read_dir(corpus()).unwrap();
    let mut found: Vec<_> = corpus
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    found.sort_unstable();
    targets.sort_unstable();
    assert_eq!(found, targets);
}

#[test]
fn heads_of_requests() {
    check("request_head");
}

#[test]
fn heads_of_responses() {
    check("response_head");
}

#[test]
fn chunked_bodies() {
    check("chunked");
}

#[test]
fn names() {
    check("names");
}

#[test]
fn whole_connections() {
    check("connection");
}

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Runs a target on its corpus and on changes of it; says which bytes it fails on.
fn check(target: &str) {
    let entries = std::fs::read_dir(corpus().join(target)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    let inputs: Vec<_> = paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(!inputs.is_empty());
    let mut random = Random(SEED);
    let changed = (0..CHANGES).map(|_| changed(&mut random, &inputs));
    for input in inputs.iter().cloned().chain(changed) {
        let ended = catch_unwind(|| run(target, &input));
        assert!(ended.is_ok(), "{target} fails on {}", input.escape_ascii());
    }
}

/// Numbers that look random: SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
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
];

/// One of the inputs with one to four changes.
fn changed(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let (one, other) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
        let (begin, end) = (one.min(other), one.max(other).min(one.min(other) + 40));
        match random.below(6) {
            0 => drop(bytes.drain(begin..end)),
            1 => {
                let copy = bytes[begin..end].to_vec();
                bytes.splice(end..end, copy);
            }
            2 if begin < bytes.len() => bytes[begin] ^= 1 << random.below(8),
            3 => bytes.extend_from_slice(&inputs[random.below(inputs.len())]),
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(begin..begin, piece.iter().copied());
            }
        }
    }
    bytes
}
