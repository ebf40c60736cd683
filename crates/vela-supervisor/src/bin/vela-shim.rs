//! The shim as a program of its own, for hosts that would rather ship one more file than have a
//! hidden subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    vela_supervisor::run_shim()
}
