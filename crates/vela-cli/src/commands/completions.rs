use clap::CommandFactory;

use crate::args::{Cli, Completions};
use crate::failure::Failure;
use crate::render::to_stdout;

pub(crate) fn run(args: Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vela", &mut script);
    to_stdout(String::from_utf8_lossy(&script).trim_end())
}
