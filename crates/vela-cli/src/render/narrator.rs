use std::time::Duration;

use jiff::Timestamp;
use vela_protocol::{Envelope, Event, Report, Step};

use super::screen::{json_line, to_stdout};
use super::{Phase, View, date, plural, printable, took};
use crate::failure::Failure;

/// Tells an operation's events: to a [`View`], or as they are.
pub(crate) struct Narrator {
    view: Option<Box<dyn View>>,
    ndjson: bool,
    verbose: bool,
    running: Option<Phase>,
    detail: Option<String>,
}

impl Narrator {
    /// For people.
    pub(crate) fn new(view: Box<dyn View>, verbose: bool) -> Narrator {
        Narrator {
            view: Some(view),
            ndjson: false,
            verbose,
            running: None,
            detail: None,
        }
    }

    /// For programs: each envelope is one line of stdout.
    pub(crate) fn ndjson() -> Narrator {
        Narrator {
            ndjson: true,
            ..Narrator::silent()
        }
    }

    /// For nobody: the end alone counts.
    pub(crate) fn silent() -> Narrator {
        Narrator {
            view: None,
            ndjson: false,
            verbose: false,
            running: None,
            detail: None,
        }
    }

    /// A phase of the client's own begins.
    pub(crate) fn started(&mut self, phase: Phase) {
        self.detail = None;
        self.running = Some(phase);
        if let Some(view) = &mut self.view {
            view.started(phase);
        }
    }

    /// How far the running phase is.
    pub(crate) fn progressed(&mut self, detail: &str) {
        if let (Some(view), Some(phase)) = (&mut self.view, self.running) {
            view.progressed(phase, detail);
        }
    }

    /// A phase of the client's own ended.
    pub(crate) fn finished(&mut self, phase: Phase, took: Duration, detail: &str) {
        if let Some(view) = &mut self.view {
            view.finished(phase, took, Some(detail));
        }
    }

    /// Something that happened on the way.
    pub(crate) fn line(&mut self, text: &str) {
        if let Some(view) = &mut self.view {
            view.line(text);
        }
    }

    /// The next event of the operation.
    pub(crate) fn event(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        if self.ndjson {
            return to_stdout(&json_line(envelope)?);
        }
        let Some(view) = self.view.as_deref_mut() else {
            return Ok(());
        };
        match &envelope.event {
            Event::Started {
                app,
                operation,
                release,
                strategy,
                steps,
                ..
            } => {
                let phases: Vec<Phase> = steps.iter().copied().map(Phase::Step).collect();
                let title = format!("{} {app} {release} ({strategy})", operation.as_str());
                view.planned(&printable(&title), &phases);
            }
            Event::StepStarted { step } => {
                self.running = Some(Phase::Step(*step));
                self.detail = None;
                view.started(Phase::Step(*step));
            }
            Event::StepFinished { step, ms } => {
                let detail = self.detail.take();
                view.finished(Phase::Step(*step), millis(*ms), detail.as_deref());
            }
            Event::StepFailed { step, ms, error } => {
                view.failed(
                    Phase::Step(*step),
                    millis(*ms),
                    &printable(&error.to_string()),
                );
            }
            Event::StepUndone { step, ms, error } => {
                let left = error.as_ref().map(ToString::to_string);
                view.undone(
                    Phase::Step(*step),
                    millis(*ms),
                    left.as_deref().map(printable).as_deref(),
                );
            }
            Event::HookPrinted { hook, line, .. } => {
                view.line(&format!("{hook} | {}", printable(line)));
            }
            Event::BuildPrinted { line, .. } => {
                view.line(&format!("build | {}", printable(line)));
            }
            Event::InstanceStarted { pid, port, .. } => {
                let port = port
                    .map(|port| format!(", port {port}"))
                    .unwrap_or_default();
                self.detail = Some(format!("pid {pid}{port}"));
            }
            Event::HealthChecked {
                attempt,
                failure: Some(failure),
                ..
            } => {
                let counted = match attempt.number {
                    Some(number) => format!("attempt {number} of {}", attempt.of),
                    None => "early attempt".to_owned(),
                };
                let text = format!("{counted}: {}", printable(failure));
                // The early ones come every few milliseconds.
                match self.verbose || attempt.number.is_some() {
                    true => view.attempted(Phase::Step(Step::Health), &text),
                    false => view.progressed(Phase::Step(Step::Health), &text),
                }
            }
            Event::Drained { left } if *left > 0 => {
                let requests = plural(*left as u64, "request");
                self.detail = Some(format!("{requests} had not ended"));
            }
            Event::InstanceStopped { exit, .. } => {
                self.detail = Some(printable(exit).into_owned());
            }
            Event::InstanceRestarted { exit, .. } => {
                view.line(&format!(
                    "the old instance died ({}) and was started again",
                    printable(exit)
                ));
            }
            Event::CertificateObtained { not_after, .. } => {
                self.detail = Some(format!("valid until {}", date(*not_after)));
            }
            Event::CertificateDelayed {
                hosts,
                error,
                retry_at,
                ..
            } => {
                view.line(&printable(&delayed(hosts, error.as_ref(), *retry_at)));
                self.detail = Some("not there yet".to_owned());
            }
            Event::Warned { message } => view.line(&format!("warning: {}", printable(message))),
            Event::Unknown(fields) if self.verbose => {
                let kind = fields.get("kind").and_then(|kind| kind.as_str());
                view.line(&format!("event: {}", printable(kind.unwrap_or("unknown"))));
            }
            event if event.is_terminal() => view.closed(),
            _ => {}
        }
        Ok(())
    }

    /// The operation goes on without this terminal, or never began.
    pub(crate) fn close(&mut self) {
        if let Some(view) = &mut self.view {
            view.closed();
        }
    }
}

/// What keeps a certificate away.
fn delayed(hosts: &[String], error: Option<&Report>, retry_at: Option<Timestamp>) -> String {
    let hosts = hosts.join(", ");
    let Some(error) = error else {
        return format!(
            "warning: the certificate for {hosts} is not there yet; `vela certs list` shows when it is"
        );
    };
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}"));
    let retry = retry_at.map(|at| format!("; next try {}", date(at)));
    format!(
        "warning: no certificate for {hosts}: {error}{}{}",
        hint.unwrap_or_default(),
        retry.unwrap_or_default()
    )
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The last line of an operation that succeeded.
pub(crate) fn success(app: &str, release: &str, ms: u64, recovered: bool) -> String {
    let recovered = match recovered {
        true => ", finished by a daemon that was started anew",
        false => "",
    };
    format!("`{app}` serves {release} ({}{recovered})", took(millis(ms)))
}
