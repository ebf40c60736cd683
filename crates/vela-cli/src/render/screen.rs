use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::live::Live;
use super::plain::Plain;
use super::{Narrator, Paint, Verdict, failure};
use crate::args::Common;
use crate::exit::Exit;
use crate::failure::{Cause, Failure};

/// Where output goes: results to stdout, everything else to stderr.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    json: bool,
    quiet: bool,
    verbose: u8,
    live: bool,
    paint: Paint,
}

impl Screen {
    /// What the flags, the terminal and `NO_COLOR` ask for.
    pub(crate) fn new(common: &Common) -> Screen {
        let stderr = io::stderr();
        let coloured = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen {
            json: common.json,
            quiet: common.quiet,
            verbose: common.verbose,
            live: stderr.is_terminal() && !dumb,
            paint: Paint::new(coloured),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn paint(&self) -> Paint {
        self.paint
    }

    /// What shows an operation.
    pub(crate) fn narrator(&self) -> Narrator {
        if self.json {
            Narrator::ndjson()
        } else if self.quiet {
            Narrator::silent()
        } else if self.live {
            Narrator::new(Box::new(Live::new(self.paint)), self.verbose > 0)
        } else {
            Narrator::new(Box::new(Plain::new(io::stderr())), self.verbose > 0)
        }
    }

    /// The end of an operation that went well. A script gets the release, and nothing else, on stdout.
    pub(crate) fn succeeded(&self, verdict: &Verdict) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        match self.live {
            true => self.message(&format!("{} {}", self.paint.good("✓"), verdict.message)),
            false => self.message(&verdict.message),
        }
        match io::stdout().is_terminal() {
            true => Ok(()),
            false => self.result(&verdict.release),
        }
    }

    /// Something good to know.
    pub(crate) fn message(&self, text: &str) {
        if !self.quiet && !self.json {
            to_stderr(text);
        }
    }

    /// Something that the user should know.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet && !self.json {
            to_stderr(&format!("{} {text}", self.paint.warning("warning:")));
        }
    }

    /// A result.
    pub(crate) fn result(&self, text: &str) -> Result<(), Failure> {
        to_stdout(text)
    }

    /// A result for programs, on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        to_stdout(&json_line(value)?)
    }

    /// The end of a command that failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if matches!(failure.cause, Cause::Silent) {
            return;
        }
        to_stderr(&if self.json {
            failure::as_json(failure)
        } else {
            failure::as_text(failure, self.paint)
        });
    }
}

/// One line of JSON without its end.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::because("cannot write the result as JSON", &error))
}

/// A line to stdout. A reader that went away ends the command quietly: `vela logs | head` is no error.
pub(crate) fn to_stdout(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure {
                exit: Exit::Error,
                cause: Cause::Silent,
                state: None,
            },
            _ => Failure::because("cannot write to stdout", &error),
        })
}

/// A line to stderr. When even that fails there is nobody left to tell; the exit code still says how it ended.
pub(crate) fn to_stderr(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
