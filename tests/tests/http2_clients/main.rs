//! Clients of HTTP/2 that nobody here wrote, in front of Vela's proxy.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

mod app;
mod browser;
mod curl;
mod front;
mod load;

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use vela_tests::Output;

/// Longer than anything takes, so that a hanging test fails instead.
const LONG: Duration = Duration::from_secs(60);

/// Runs a program to its end.
async fn run(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LONG, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {args:?} does not end"));
    output
        .unwrap_or_else(|error| panic!("{program}: {error}"))
        .into()
}
