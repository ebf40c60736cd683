use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure an [`ApiError`] is, for programs; its message is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request makes no sense: a bad name, a bad manifest, a missing field.
    Invalid,
    /// No such app, release, deploy or upload.
    NotFound,
    /// The operation contradicts the present state: a domain another app has, a rollback to the current release.
    Conflict,
    /// Another operation holds the app.
    Busy,
    /// The peer may not do that.
    Forbidden,
    /// The body is larger than the quota, or the disk is full.
    TooLarge,
    /// The daemon speaks another version.
    Version,
    /// The daemon is stopping.
    Unavailable,
    /// A fault of the daemon or of its machine.
    #[serde(other)]
    Internal,
}

/// An error as it crosses the wire: what happened, why, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What went wrong, without its causes.
    pub message: String,
    /// The causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What the user can do, with the command that helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The last lines of output of what failed: of the app, or of a hook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

impl Report {
    /// Takes the message and the chain of causes of `error`.
    pub fn of(error: &dyn std::error::Error) -> Report {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Report {
            message: error.to_string(),
            causes: causes.map(ToString::to_string).collect(),
            hint: None,
            output: Vec::new(),
        }
    }

    /// The same report with a hint.
    pub fn with_hint(mut self, hint: Option<String>) -> Report {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", report.message)]
pub struct ApiError {
    /// The kind of failure.
    pub code: ErrorCode,
    /// What to show.
    #[serde(flatten)]
    pub report: Report,
    /// The state of the system after the error: "`my-app` still serves 20260305-143022".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

impl ApiError {
    /// An error with a message alone.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        let report = Report {
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            output: Vec::new(),
        };
        ApiError {
            code,
            report,
            state: None,
        }
    }
}
