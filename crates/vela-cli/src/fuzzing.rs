//! What servers and apps say to a person's terminal, as functions of bytes that panic where something
//! is wrong. For `fuzz/` and for `tests/fuzzing.rs`: nothing here is for users.

use crate::commands::services::nats::fuzzing::said;
use crate::render::{printable, printable_coloured};

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[("nats_console", said), ("terminal", terminal)];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(one, _)| *one == name);
    let (_, run) = target.expect("the name is in the table above");
    run(bytes);
}

/// The bytes are what another program has written.
fn terminal(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    expect_tame(&printable(&text));
    let coloured = printable_coloured(&text);
    let mut parts = coloured.split("\u{1b}[");
    expect_tame(parts.next().unwrap_or_default());
    let mut last = None;
    for part in parts {
        let (colour, rest) = part.split_once('m').expect("nothing but a colour");
        let is_part = |byte: u8| byte.is_ascii_digit() || b";:".contains(&byte);
        assert!(colour.bytes().all(is_part), "{coloured:?}");
        expect_tame(rest);
        last = Some((colour, rest));
    }
    // What comes after it is not its.
    assert!(last.is_none_or(|last| last == ("0", "")), "{coloured:?}");
}

/// Nothing in it moves a cursor, or reorders what is shown.
fn expect_tame(shown: &str) {
    let is_wild = |one: char| {
        let is_mark = matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        is_mark || one.is_control() && one != '\t'
    };
    assert!(!shown.contains(is_wild), "{shown:?}");
}
