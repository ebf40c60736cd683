use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;

use crate::printable;
use crate::{Probe, ProbeError, Target};

/// Healthy when a command exits with status 0.
///
/// The command line is the user's own and is run as it is; nothing is put into it. It learns
/// which instance is meant from the environment that its [`Exec`] gives it.
#[derive(Debug, Clone)]
pub struct ExecProbe {
    command: String,
    exec: Arc<dyn Exec>,
}

/// Runs the command of an [`ExecProbe`].
///
/// Contract, checked by `test_util::exec_conformance`:
///
/// - The command is interpreted by a shell, and reads an empty standard input.
/// - Cancel safe: dropping the future kills the command and what it started.
/// - What the command writes is read to the end in bounded memory, and at least the last line of
///   it kept.
#[async_trait]
pub trait Exec: Debug + Send + Sync {
    /// Runs `command` to its end. A command that fails is not an error here.
    ///
    /// # Errors
    ///
    /// If it could not be started or watched.
    async fn run(&self, command: &str) -> io::Result<ExecOutput>;
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// The exit status, unless a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last line that is not blank of what it wrote, to standard output or error. The probe
    /// shortens and escapes it.
    pub last_line: Option<String>,
}

impl ExecProbe {
    /// A probe that has `exec` run `command`.
    #[must_use]
    pub fn new(command: impl Into<String>, exec: Arc<dyn Exec>) -> Self {
        Self {
            command: command.into(),
            exec,
        }
    }
}

#[async_trait]
impl Probe for ExecProbe {
    async fn check(&self, _target: &Target) -> Result<(), ProbeError> {
        match self.exec.run(&self.command).await {
            Ok(ExecOutput {
                status: Some(0), ..
            }) => Ok(()),
            Ok(ExecOutput {
                status,
                signal,
                last_line,
            }) => Err(ProbeError::Exec {
                command: self.command.clone(),
                status,
                signal,
                last_line: last_line.and_then(|line| printable::line(line.as_bytes())),
            }),
            Err(source) => Err(ProbeError::ExecStart {
                command: self.command.clone(),
                source,
            }),
        }
    }
}
