//! Runs a crate's fuzz targets on what its corpus has and on a few thousand changes of that. What a
//! fuzzer has found lies in the corpus too, so that it is never forgotten.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

use std::panic::catch_unwind;
use std::path::Path;

const SEED: u64 = 1;

/// A target: its name, and what takes the bytes. It panics where something is wrong.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of a crate.
#[derive(Clone, Copy, Debug)]
pub struct Suite<'a> {
    /// Has a directory for each target, with a file for each input.
    pub corpus: &'a str,
    /// All of them.
    pub targets: &'a [Target],
    /// What the parsers treat in a way of their own.
    pub pieces: &'a [&'a [u8]],
}

impl Suite<'_> {
    /// Fails unless the corpus is of these targets.
    pub fn check_corpus(&self) {
        let mut found: Vec<_> = std::fs::read_dir(self.corpus)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut targets: Vec<_> = self.targets.iter().map(|(name, _)| *name).collect();
        found.sort_unstable();
        targets.sort_unstable();
        assert_eq!(found, targets);
    }

    /// Runs a target on its corpus and on so many changes of it; says which bytes it fails on.
    pub fn check(&self, target: &str, changes: usize) {
        let (_, run) = self.targets.iter().find(|(one, _)| *one == target).unwrap();
        let entries = std::fs::read_dir(Path::new(self.corpus).join(target)).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort_unstable();
        let inputs: Vec<_> = paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        assert!(!inputs.is_empty());
        let mut random = Random(SEED);
        let changed = (0..changes).map(|_| self.changed(&mut random, &inputs));
        for input in inputs.iter().cloned().chain(changed) {
            let ended = catch_unwind(|| run(&input));
            assert!(ended.is_ok(), "{target} fails on {}", input.escape_ascii());
        }
    }

    /// One of the inputs with one to four changes.
    fn changed(&self, random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
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
                    let piece = self.pieces[random.below(self.pieces.len())];
                    bytes.splice(begin..begin, piece.iter().copied());
                }
            }
        }
        bytes
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
