use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

use crate::args::{Cli, Command};
use crate::commands;
use crate::context::Context;
use crate::failure::Failure;
use crate::log;
#[cfg(target_os = "linux")]
use crate::{demo, serve, setup};

/// Runs the command line of this process to its end.
///
/// Errors have been printed when it returns. Must be called first in `main`, while there is one thread: the hidden
/// subcommand `shim` becomes the parent of an app's process.
pub fn run() -> ExitCode {
    // A shim lives as long as its app: no parser, no runtime, no memory for either.
    #[cfg(target_os = "linux")]
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "shim")
    {
        return vela_supervisor::run_shim();
    }
    let Cli { common, command } = Cli::parse();
    let context = Context::new(common);
    match dispatch(&context, command) {
        Ok(code) => code,
        Err(failure) => {
            context.screen.failure(&failure);
            failure.exit.into()
        }
    }
}

fn dispatch(context: &Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(args) => commands::init::run(context, args)?,
        Command::Check => commands::check::run(context)?,
        Command::Deploy(args) => block_on(context, commands::deploy::run(context, args))?,
        Command::Cancel(args) => block_on(context, commands::cancel::run(context, args))?,
        Command::Status(args) => block_on(context, commands::status::run(context, args))?,
        Command::Apps => block_on(context, commands::apps::run(context))?,
        Command::Logs(args) => block_on(context, commands::logs::run(context, args))?,
        Command::Releases(args) => block_on(context, commands::releases::run(context, args))?,
        Command::History(args) => block_on(context, commands::history::run(context, args))?,
        Command::Rollback(args) => block_on(context, commands::rollback::run(context, args))?,
        Command::Restart(args) => block_on(context, commands::restart::restart(context, args))?,
        Command::Start(args) => block_on(context, commands::restart::start(context, args))?,
        Command::Stop(args) => block_on(context, commands::stop::run(context, args))?,
        Command::Maintenance(args) => {
            block_on(context, commands::maintenance::run(context, args))?;
        }
        Command::Remove(args) => block_on(context, commands::remove::run(context, args))?,
        Command::Secret(args) => block_on(context, commands::secret::run(context, args))?,
        Command::Services(args) => block_on(context, commands::services::run(context, args))?,
        Command::Certs(args) => block_on(context, commands::certs::run(context, args))?,
        #[cfg(target_os = "linux")]
        Command::Setup(args) => setup::run(context, args)?,
        #[cfg(target_os = "linux")]
        Command::Serve(args) => serve::run(context, args)?,
        Command::Completions(args) => commands::completions::run(args)?,
        Command::Join(args) => block_on(context, commands::join::run(args))?,
        #[cfg(target_os = "linux")]
        Command::Demo(args) => block_on(context, demo::run(context, args))?,
        #[cfg(target_os = "linux")]
        Command::DemoApp(args) => return Ok(demo::app::run(args)),
        // Taken before the command line was parsed, unless a flag stands before it.
        #[cfg(target_os = "linux")]
        Command::Shim => return Ok(vela_supervisor::run_shim()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a client's command on this thread.
fn block_on(
    context: &Context,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    log::of_client(context);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start", &error))?;
    let result = runtime.block_on(command);
    // Packing that was interrupted, and reads of stdin, cannot be cancelled: they end with the process.
    runtime.shutdown_background();
    result
}
