//! `vela demo`: zero-downtime deploys under load, on this machine, with nothing set up before or left behind after.
//!
//! [`app`] is the program that is deployed, [`load`] the load generator that counts each failed request. Both are
//! of use to tests.

pub mod app;
pub mod load;

mod daemon;
mod fixture;
mod report;
mod script;
mod stats;
mod timeline;
mod websocket;

use tokio::signal::unix::{SignalKind, signal};

use self::daemon::Daemon;
use self::report::DemoReport;
use self::timeline::Timeline;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupts;

/// How much load there is.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Short requests a second
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Go on until this many requests were made, for 50 seconds at most
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    pub requests: u64,
}

/// Starts a daemon, deploys, counts, prints, and clears away; fails if one request did or an outcome is not as it
/// should be.
pub(crate) async fn run(context: &Context, args: DemoArgs) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    // A terminal that is closed must not leave a daemon behind either.
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|error| Failure::because("cannot handle signals", &error))?;
    let timeline = Timeline::new(&context.screen);
    let interrupted = async {
        tokio::select! {
            () = interrupts.next() => {}
            _ = hangup.recv() => {}
        }
        Failure::interrupted("interrupted", "the demo's daemon and app are stopped")
    };
    let mut interrupted = std::pin::pin!(interrupted);
    let daemon = tokio::select! {
        started = Daemon::start() => started?,
        failure = &mut interrupted => return Err(failure),
    };
    timeline.started(&daemon);
    let played = tokio::select! {
        played = script::play(&daemon, &timeline, &args) => played,
        failure = &mut interrupted => Err(failure),
    };
    let stopped = daemon.stop().await;
    let report = match (played, &stopped) {
        (Ok(report), _) => report,
        (Err(failure), Ok(())) => return Err(failure),
        // A daemon that died, or could not be stopped, explains the other failure.
        (Err(_), Err(_)) => return stopped,
    };
    timeline.ended(&report)?;
    stopped?;
    verdict(&report)
}

fn verdict(report: &DemoReport) -> Result<(), Failure> {
    let unexpected = report.deploys.iter().filter(|deploy| !deploy.expected);
    let unexpected: Vec<&str> = unexpected.map(|deploy| deploy.kind).collect();
    match (report.load.is_clean(), unexpected.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(Failure::new(format!(
            "{} of {} requests failed",
            report.load.failed, report.load.requests
        ))),
        (true, false) => Err(Failure::new(format!(
            "not the outcome that was expected: {}",
            unexpected.join(", ")
        ))),
    }
}
