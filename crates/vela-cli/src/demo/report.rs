use std::time::Duration;

use serde::{Serialize, Serializer};
use vela_protocol::{Envelope, Event, Step};

use super::fixture::Act;
use super::load::LoadReport;

/// What the demo has to say: the object that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct DemoReport {
    /// Requests, failures, connections and latencies, as the load generator saw them.
    #[serde(flatten)]
    pub(super) load: LoadReport,
    /// Requests that the proxy sent to an instance twice, if the daemon tells.
    pub(super) retries: Option<u64>,
    /// How long the demo took.
    pub(super) seconds: f64,
    /// Every operation.
    pub(super) deploys: Vec<Deploy>,
}

/// One operation: what was done, and how it went.
#[derive(Debug, Serialize)]
pub(super) struct Deploy {
    pub(super) kind: &'static str,
    pub(super) outcome: &'static str,
    /// Whether that is the outcome that the demo is about.
    pub(super) expected: bool,
    pub(super) release: String,
    pub(super) strategy: String,
    /// By the client's clock: packing, upload and all.
    pub(super) seconds: f64,
    /// How long each step took, in seconds.
    #[serde(serialize_with = "as_map")]
    pub(super) steps: Vec<(Step, f64)>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip)]
    failed_at: Option<Step>,
}

impl Deploy {
    /// Before its first event.
    pub(super) fn new(act: &Act) -> Deploy {
        Deploy {
            kind: act.kind,
            outcome: "lost",
            expected: false,
            release: String::new(),
            strategy: String::new(),
            seconds: 0.0,
            steps: Vec::new(),
            error: None,
            failed_at: None,
        }
    }

    pub(super) fn observe(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::Started {
                release, strategy, ..
            } => {
                self.release.clone_from(release);
                self.strategy.clone_from(strategy);
            }
            Event::StepFinished { step, ms } | Event::StepFailed { step, ms, .. } => {
                self.steps.push((*step, *ms as f64 / 1000.0));
            }
            Event::Succeeded { .. } => self.outcome = "succeeded",
            Event::Failed { step, error, .. } => {
                self.outcome = "failed";
                self.failed_at = *step;
                self.error = Some(error.to_string());
            }
            Event::Cancelled { .. } => self.outcome = "cancelled",
            _ => {}
        }
    }

    /// After its last event.
    pub(super) fn end(&mut self, act: &Act, took: Duration) {
        self.seconds = seconds(took);
        self.expected = match act.fails_at {
            None => self.outcome == "succeeded",
            Some(step) => self.outcome == "failed" && self.failed_at == Some(step),
        };
    }
}

/// In seconds, to the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

fn as_map<S: Serializer>(steps: &[(Step, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(steps.iter().map(|(step, seconds)| (step.as_str(), seconds)))
}
