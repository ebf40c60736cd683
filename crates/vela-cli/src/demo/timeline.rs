use std::time::{Duration, Instant};

use super::daemon::Daemon;
use super::fixture::Act;
use super::load::{Latency, LoadOptions};
use super::report::{DemoReport, Deploy};
use crate::failure::Failure;
use crate::render::{Screen, plural};

/// A step that took less is not worth a word.
const NOTEWORTHY: f64 = 0.001;

/// Tells what happens, with the time at which it does.
#[derive(Debug)]
pub(super) struct Timeline<'a> {
    screen: &'a Screen,
    begin: Instant,
}

impl Timeline<'_> {
    pub(super) fn new(screen: &Screen) -> Timeline<'_> {
        Timeline {
            screen,
            begin: Instant::now(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(super) fn started(&self, daemon: &Daemon) {
        let (dir, addr) = (daemon.dir().display(), daemon.addr);
        self.line(&format!("a daemon of its own in {dir}, HTTP on {addr}"));
    }

    pub(super) fn loaded(&self, options: &LoadOptions) {
        self.line(&format!(
            "load: {} requests a second on {} workers, one in {} on a new connection; \
             {} requests of {:?} and {} WebSockets always in flight",
            options.rate,
            options.workers,
            options.fresh_every,
            options.slow,
            options.slow_for,
            options.websockets,
        ));
    }

    pub(super) fn deployed(&self, act: &Act, deploy: &Deploy) {
        let paint = self.screen.paint();
        let outcome = match (deploy.expected, act.fails_at) {
            (true, None) => paint.good("done"),
            (true, Some(step)) => paint.good(&format!("refused at {step}, as it should be")),
            (false, _) => paint.bad(&format!("{}, which it should not have", deploy.outcome)),
        };
        let title = paint.strong(&format!("{:<28}", act.title));
        self.line(&format!("{title} {:>7.3} s  {outcome}", deploy.seconds));
        let steps = deploy.steps.iter().filter(|(_, took)| *took >= NOTEWORTHY);
        let steps = steps.map(|(step, took)| format!("{step} {:.0} ms", took * 1000.0));
        let steps = steps.collect::<Vec<_>>().join(", ");
        self.screen
            .message(&format!("            {}", paint.faint(&steps)));
        if let Some(error) = &deploy.error {
            self.screen
                .message(&format!("            {}", paint.faint(error)));
        }
    }

    pub(super) fn ended(&self, report: &DemoReport) -> Result<(), Failure> {
        if self.screen.is_json() {
            self.screen.json(report)?;
        } else {
            self.screen.result(&summary(report))?;
        }
        let paint = self.screen.paint();
        for failure in &report.load.failures {
            let told = format!("{} {failure}", paint.bad("failed:"));
            self.screen.message(&told);
        }
        Ok(())
    }

    fn line(&self, text: &str) {
        let at = self.elapsed().as_secs_f64();
        self.screen.message(&format!("{at:>8.3} s  {text}"));
    }
}

fn shown(latency: Latency) -> String {
    let Latency {
        p50_ms,
        p99_ms,
        max_ms,
    } = latency;
    format!("p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, longest {max_ms:.0} ms")
}

fn summary(report: &DemoReport) -> String {
    let load = &report.load;
    let gaps: Vec<String> = load
        .gaps
        .iter()
        .map(|gap| format!("{} ms", gap.ms))
        .collect();
    let retries = match report.retries {
        Some(retries) => retries.to_string(),
        None => "unknown".to_owned(),
    };
    let rows = [
        ("requests", load.requests.to_string()),
        ("failed", load.failed.to_string()),
        ("retries by the proxy", retries),
        ("new connections", load.new_connections.to_string()),
        ("slow requests", load.slow.to_string()),
        (
            "WebSockets closed in order",
            format!(
                "{}, {}",
                load.websockets.ended,
                plural(load.websockets.messages, "message")
            ),
        ),
        ("latency", shown(load.latency)),
        ("from when it was due", shown(load.latency_from_due)),
        ("sequential gap", gaps.join(", ")),
        (
            "longest silence outside it",
            format!("{} ms", load.longest_silence_ms),
        ),
        ("duration", format!("{:.1} s", report.seconds)),
    ];
    rows.map(|(name, value)| format!("{name:<28}{value}"))
        .join("\n")
}
