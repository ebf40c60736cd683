//! The `vela` binary from outside: its output, its exit codes, its signals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod deploy;
mod local;
mod serve;
mod support;
