//! What servers answer, as functions of bytes that panic where something is wrong.
//! For `fuzz/` and for `tests/fuzzing.rs`: nothing here is for users.

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("nats_answer", crate::nats::fuzzing::answer),
    ("nats_hello", crate::nats::fuzzing::hello),
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
