use std::error::Error;

use vela_manifest::ManifestError;
use vela_protocol::{ApiError, Report};

use crate::exit::Exit;

/// Why a command failed, ready to be shown: the one error type of this crate, since here errors end.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What is shown.
    pub(crate) cause: Cause,
    /// The state of the system after the failure, shown last.
    pub(crate) state: Option<String>,
}

/// What a failure shows.
#[derive(Debug)]
pub(crate) enum Cause {
    /// A message, its causes, a hint, and the output of what failed.
    Report(Box<Report>),
    /// Problems of a manifest, with the lines they are about.
    Manifest(Box<ManifestError>),
    /// Nothing: the reader of stdout went away, as `head` does.
    Silent,
}

impl Failure {
    /// An error with a message alone.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::from_report(Report {
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            output: Vec::new(),
        })
    }

    /// An error with a message of its own and `cause` with its chain below it.
    pub(crate) fn because(message: impl Into<String>, cause: &dyn Error) -> Failure {
        let below = Report::of(cause);
        Failure::from_report(Report {
            message: message.into(),
            causes: std::iter::once(below.message).chain(below.causes).collect(),
            hint: None,
            output: Vec::new(),
        })
    }

    /// An error as it is, with its chain.
    pub(crate) fn of(error: &dyn Error) -> Failure {
        Failure::from_report(Report::of(error))
    }

    /// A report as it is.
    pub(crate) fn from_report(report: Report) -> Failure {
        Failure {
            exit: Exit::Error,
            cause: Cause::Report(Box::new(report)),
            state: None,
        }
    }

    /// Ctrl-C: `state` says what became of what was begun.
    pub(crate) fn interrupted(message: &str, state: impl Into<String>) -> Failure {
        Failure::new(message)
            .with_exit(Exit::Interrupted)
            .with_state(state)
    }

    /// The same failure with another exit code.
    pub(crate) fn with_exit(mut self, exit: Exit) -> Failure {
        self.exit = exit;
        self
    }

    /// The same failure with a hint, unless it has a better one.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        if let Cause::Report(report) = &mut self.cause {
            report.hint.get_or_insert_with(|| hint.into());
        }
        self
    }

    /// The same failure with the state of the system, unless the server told it.
    pub(crate) fn with_state(mut self, state: impl Into<String>) -> Failure {
        self.state.get_or_insert_with(|| state.into());
        self
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure {
            exit: Exit::from(error.code),
            cause: Cause::Report(Box::new(error.report)),
            state: error.state,
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Failure {
        Failure {
            exit: Exit::Error,
            cause: Cause::Manifest(Box::new(error)),
            state: None,
        }
    }
}
