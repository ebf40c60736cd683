use std::process::ExitCode;

use vela_protocol::{ErrorCode, Serving};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// An error, a failed first deploy too.
    Error = 1,
    /// The command line makes no sense. Clap itself ends with the same code.
    Usage = 2,
    /// The deploy failed and the old release still serves.
    StillServing = 3,
    /// The server could not be reached.
    Unreachable = 4,
    /// Another operation holds the app.
    Busy = 5,
    /// The app is down.
    Down = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The code after an operation that was undone.
    pub(crate) fn after(serving: &Serving) -> Exit {
        match serving {
            Serving::Previous { .. } => Exit::StillServing,
            Serving::Down { .. } => Exit::Down,
            _ => Exit::Error,
        }
    }
}

impl From<ErrorCode> for Exit {
    fn from(code: ErrorCode) -> Exit {
        match code {
            ErrorCode::Busy => Exit::Busy,
            ErrorCode::Unavailable => Exit::Unreachable,
            _ => Exit::Error,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
