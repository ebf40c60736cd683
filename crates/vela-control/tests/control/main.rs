//! The client against real sockets, a real SSH server and connections that break.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod client;
mod server;
mod ssh;
mod ssh_keys;
mod support;
