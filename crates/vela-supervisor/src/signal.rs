use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A signal that can be sent to an instance's main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Signal {
    /// `SIGHUP`
    Hup,
    /// `SIGINT`
    Int,
    /// `SIGQUIT`
    Quit,
    /// `SIGKILL`
    Kill,
    /// `SIGUSR1`
    Usr1,
    /// `SIGUSR2`
    Usr2,
    /// `SIGTERM`
    Term,
}

impl Signal {
    const ALL: [Self; 7] = [
        Self::Hup,
        Self::Int,
        Self::Quit,
        Self::Kill,
        Self::Usr1,
        Self::Usr2,
        Self::Term,
    ];

    /// The name without `SIG`: `TERM`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Term => "TERM",
        }
    }

    pub(crate) fn raw(self) -> rustix::process::Signal {
        use rustix::process::Signal as Raw;
        match self {
            Self::Hup => Raw::HUP,
            Self::Int => Raw::INT,
            Self::Quit => Raw::QUIT,
            Self::Kill => Raw::KILL,
            Self::Usr1 => Raw::USR1,
            Self::Usr2 => Raw::USR2,
            Self::Term => Raw::TERM,
        }
    }

    /// The signal of that number, if it is one of these.
    pub(crate) fn of_raw(number: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|signal| signal.raw().as_raw() == number)
    }

    /// The signals that a shim passes on to its instance.
    pub(crate) fn forwarded() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|signal| *signal != Self::Kill)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIG{}", self.name())
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let bare = name.strip_prefix("SIG").unwrap_or(name);
        let found = Self::ALL.into_iter().find(|signal| signal.name() == bare);
        found.ok_or_else(|| UnknownSignal(name.to_owned()))
    }
}

/// A name that is no [`Signal`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal `{0}` (one of HUP, INT, QUIT, KILL, USR1, USR2, TERM)")]
pub struct UnknownSignal(pub String);

/// How to stop an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// What its main process is told.
    pub signal: Signal,
    /// How long it may take; then its whole tree is killed.
    pub grace: Duration,
}

impl Stop {
    /// Kill the whole tree at once.
    #[must_use]
    pub fn now() -> Self {
        Self {
            signal: Signal::Kill,
            grace: Duration::ZERO,
        }
    }
}

impl Default for Stop {
    /// `SIGTERM` and ten seconds.
    fn default() -> Self {
        Self {
            signal: Signal::Term,
            grace: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_with_and_without_prefix() {
        for signal in Signal::ALL {
            assert_eq!(signal.name().parse(), Ok(signal));
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
        for name in ["", "SIG", "term", "SIGSIGTERM", "STOP"] {
            assert_eq!(name.parse::<Signal>(), Err(UnknownSignal(name.into())));
        }
    }
}
