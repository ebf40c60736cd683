use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Signal;

/// How and when an instance's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// When that was seen.
    pub at: Timestamp,
}

impl Exit {
    /// An end seen now.
    #[must_use]
    pub fn now(status: ExitStatus) -> Self {
        Self {
            status,
            at: Timestamp::now(),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It exited with this code; 0 is success.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Nobody was left to see: its shim was killed, or the machine was restarted.
    Unknown,
}

impl ExitStatus {
    /// Whether it exited with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => match Signal::of_raw(*number) {
                Some(signal) => write!(f, "killed by signal {number} ({})", signal.name()),
                None => write!(f, "killed by signal {number}"),
            },
            Self::Unknown => f.write_str("ended unseen"),
        }
    }
}

impl From<rustix::process::WaitStatus> for ExitStatus {
    fn from(status: rustix::process::WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl From<rustix::process::WaitIdStatus> for ExitStatus {
    fn from(status: rustix::process::WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_end_of_a_sentence() {
        for (status, text) in [
            (ExitStatus::Code(3), "exited with code 3"),
            (ExitStatus::Signal(15), "killed by signal 15 (TERM)"),
            (ExitStatus::Signal(11), "killed by signal 11"),
            (ExitStatus::Unknown, "ended unseen"),
        ] {
            assert_eq!(status.to_string(), text);
        }
    }
}
