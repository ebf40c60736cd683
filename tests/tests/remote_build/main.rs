//! `[build] remote = true`: the committed source goes over a real SSH server to a real daemon, is built there with real
//! tools, and deployed.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]
#![expect(clippy::print_stdout, reason = "measured numbers, for who wants them")]

mod failures;
mod isolation;
mod project;
mod source;
mod tools;
