//! The `vela` program as the tests run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    vela_cli::run()
}
