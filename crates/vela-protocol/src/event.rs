use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Hook, Report, Step};

/// One event of one operation, as it stands on a line of a stream and of a history file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The version of the words: [`crate::VERSION`].
    pub v: u32,
    /// Counts the events of an operation from 0, without gaps.
    pub seq: u64,
    /// When it happened, by the daemon's clock.
    pub time: Timestamp,
    /// The operation's id, made by the client: its idempotency key.
    pub deploy: Uuid,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened during an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The operation was accepted and is the only one of its app.
    Started {
        /// The app's name.
        app: String,
        /// What is being done.
        operation: Operation,
        /// The release it is done with.
        release: String,
        /// The release that was current before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<String>,
        /// The strategy's name.
        strategy: String,
        /// Who asked for it.
        by: Who,
        /// The steps that will be taken, in order.
        steps: Vec<Step>,
        /// The git revision of what is deployed, if the client knew it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        git: Option<String>,
        /// The user's message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A step began: on disk before its first effect.
    StepStarted {
        /// Which one.
        step: Step,
    },
    /// A step succeeded.
    StepFinished {
        /// Which one.
        step: Step,
        /// How long it took, in milliseconds.
        ms: u64,
    },
    /// A step failed. Before the commit point the operation is undone; after it the failure is only recorded.
    StepFailed {
        /// Which one.
        step: Step,
        /// How long it took, in milliseconds.
        ms: u64,
        /// Why.
        error: Report,
    },
    /// The effects of a step were taken back.
    StepUndone {
        /// Which one.
        step: Step,
        /// How long that took, in milliseconds.
        ms: u64,
        /// Why it could not be taken back wholly, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Report>,
    },
    /// A hook wrote a line.
    HookPrinted {
        /// Which hook.
        hook: Hook,
        /// To which stream.
        stream: Stream,
        /// The line without its end.
        line: String,
    },
    /// The build command wrote a line.
    BuildPrinted {
        /// To which stream.
        stream: Stream,
        /// The line without its end.
        line: String,
    },
    /// A process of the app was started.
    InstanceStarted {
        /// The instance.
        instance: String,
        /// Its process.
        pid: u32,
        /// Its port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// A health probe answered.
    HealthChecked {
        /// The instance.
        instance: String,
        /// Which attempt it was.
        attempt: Attempt,
        /// The failure, or nothing when it was healthy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// The old instances were drained.
    Drained {
        /// Requests that had not ended by the deadline; they end with their instance.
        left: usize,
    },
    /// A process of the app ended because it was told to.
    InstanceStopped {
        /// The instance.
        instance: String,
        /// How it ended: "exit code 0", "signal KILL".
        exit: String,
    },
    /// The old instance died by itself during the operation, and was started again.
    InstanceRestarted {
        /// The instance that died.
        instance: String,
        /// How it ended.
        exit: String,
    },
    /// The app's hosts are served with a certificate that was obtained meanwhile.
    CertificateObtained {
        /// What it is for.
        hosts: Vec<String>,
        /// Until when it is valid.
        not_after: Timestamp,
        /// How long it took from the commit on, in milliseconds.
        ms: u64,
    },
    /// There is no certificate for all of the app's hosts yet. The daemon goes on trying.
    CertificateDelayed {
        /// What it is to be for.
        hosts: Vec<String>,
        /// Why an attempt failed; nothing while the first one is still under way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Report>,
        /// When it is tried again, after a failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
        /// How long it was waited for from the commit on, in milliseconds.
        ms: u64,
    },
    /// Something that the user should know but that stops nothing.
    Warned {
        /// What.
        message: String,
    },
    /// Terminal: the release serves.
    Succeeded {
        /// The release.
        release: String,
        /// How long the operation took, in milliseconds.
        ms: u64,
        /// Whether a restarted daemon found it committed and finished it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recovered: bool,
    },
    /// Terminal: the operation was undone.
    Failed {
        /// The step that failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<Step>,
        /// Why.
        error: Report,
        /// How long the operation took, in milliseconds.
        ms: u64,
        /// What the app's users get now.
        serving: Serving,
    },
    /// Terminal: the operation was undone because someone asked for it.
    Cancelled {
        /// Who.
        by: Who,
        /// How long the operation took, in milliseconds.
        ms: u64,
        /// What the app's users get now.
        serving: Serving,
    },
    /// A kind that this version does not know, with all of its fields.
    #[serde(untagged)]
    Unknown(serde_json::Map<String, serde_json::Value>),
}

impl Event {
    /// Whether this is the last event of its operation.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Event::Succeeded { .. } | Event::Failed { .. } | Event::Cancelled { .. }
        )
    }
}

/// What is done to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// A new release.
    Deploy,
    /// An earlier release again.
    Rollback,
    /// The same release, with new instances.
    Restart,
    /// No instances, until the app is started again. Holds the app, but has no history.
    Stop,
    /// A certificate that was obtained or renewed, or could not be: the daemon's own doing. Holds nothing, and has no
    /// events.
    Certificate,
    /// Maintenance begun or ended. Holds the app, but has no history.
    Maintenance,
    /// No app. Holds the app, but has no history.
    Remove,
}

impl Operation {
    /// The name on the wire, which is also the CLI's verb.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Deploy => "deploy",
            Operation::Rollback => "rollback",
            Operation::Restart => "restart",
            Operation::Stop => "stop",
            Operation::Certificate => "certificate",
            Operation::Maintenance => "maintenance",
            Operation::Remove => "remove",
        }
    }
}

/// What an app's users get after an operation that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Serving {
    /// The release from before, undisturbed.
    Previous {
        /// Its id.
        release: String,
    },
    /// Nothing, and nothing served before either: a first deploy failed, or the app was stopped.
    Nothing,
    /// Nothing, though a release served before: the app is down.
    Down {
        /// The release that should serve.
        release: String,
    },
}

/// One of the two streams of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which of the health probes it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1; nothing for the quick probes of the first second, which don't count.
    pub number: Option<u32>,
    /// How many there are at most.
    pub of: u32,
}

/// Who asked for an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The user id of the peer of the daemon's socket, which the kernel vouches for; nothing for the daemon itself.
    pub uid: Option<u32>,
    /// The name of that user on the server.
    pub user: String,
    /// What the client says of itself, such as `alice@laptop`: not vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.client {
            Some(client) => write!(f, "{} ({client})", self.user),
            None => f.write_str(&self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_keeps_its_fields_through_a_round_trip() {
        let line = serde_json::json!({
            "v": 2, "seq": 9, "time": "2026-03-05T14:30:22Z", "deploy": Uuid::nil(),
            "kind": "certificate_issued", "hosts": ["a.example"],
        });
        let envelope: Envelope = serde_json::from_value(line.clone()).unwrap();
        let Event::Unknown(fields) = &envelope.event else {
            panic!("{envelope:?}")
        };
        assert_eq!(fields["hosts"][0], "a.example");
        assert_eq!(serde_json::to_value(&envelope).unwrap(), line);
    }

    #[test]
    fn only_the_last_event_is_terminal() {
        let failed = Event::Failed {
            step: Some(Step::Health),
            error: Report::of(&std::io::Error::other("x")),
            ms: 3,
            serving: Serving::Nothing,
        };
        assert!(failed.is_terminal());
        assert!(!Event::StepStarted { step: Step::Health }.is_terminal());
    }
}
