use std::fmt;

use crate::value::Value;

/// `deploy.stop_signal`: what an instance is asked to stop with, before it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGHUP.
    Hup,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGKILL: no chance to finish anything.
    Kill,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

impl StopSignal {
    const ALL: [(&str, Self); 7] = [
        ("TERM", Self::Term),
        ("HUP", Self::Hup),
        ("INT", Self::Int),
        ("QUIT", Self::Quit),
        ("KILL", Self::Kill),
        ("USR1", Self::Usr1),
        ("USR2", Self::Usr2),
    ];

    /// `TERM` or `SIGTERM`.
    pub(crate) fn read(value: &Value<'_>) -> Option<Self> {
        let name = value.string()?;
        value.choose(name.strip_prefix("SIG").unwrap_or(name), &Self::ALL)
    }

    /// The name without `SIG`, as in `TERM`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
