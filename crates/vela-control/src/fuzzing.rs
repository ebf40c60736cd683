//! What parses bytes from the network, each part as a function of bytes that panics where something
//! is wrong. For `fuzz/` and for `tests/fuzzing.rs`: nothing here is for users.

mod answer_lines;
mod join_word;
mod known_host;
mod request_uri;

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("answer_lines", answer_lines::answer_lines),
    ("join_word", join_word::join_word),
    ("known_host", known_host::known_host),
    ("request_uri", request_uri::request_uri),
];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(one, _)| *one == name);
    let (_, run) = target.expect("the name is in the table above");
    run(bytes);
}
