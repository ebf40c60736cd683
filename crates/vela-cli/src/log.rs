use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::context::Context;

/// The log of the daemon, to stderr: as text, or as JSON with `--json`.
#[cfg(target_os = "linux")]
pub(crate) fn of_daemon(context: &Context) {
    let level = match (context.is_quiet(), context.verbosity()) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    init(context, level);
}

/// What a client does below the surface, with `-vv`: its connections, mostly.
pub(crate) fn of_client(context: &Context) {
    match context.verbosity() {
        0 | 1 => {}
        2 => init(context, "debug"),
        _ => init(context, "trace"),
    }
}

/// `VELA_LOG` says more precisely what to log than flags can.
fn init(context: &Context, level: &str) {
    let filter = EnvFilter::try_from_env("VELA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match context.screen.is_json() {
        true => builder.json().flatten_event(true).init(),
        false => builder
            .with_ansi(std::io::stderr().is_terminal() && context.screen.paint().is_coloured())
            .with_target(false)
            .init(),
    }
}
