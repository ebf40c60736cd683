use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::Result;

/// One operation, as its client saw it.
#[derive(Debug)]
pub struct Operation {
    /// When the client was started.
    pub began: Instant,
    /// When the client was told that traffic was switched.
    pub switched: Option<Instant>,
    /// How long the services took, by the daemon's clock.
    pub provisioned: Option<Duration>,
    /// The last event.
    pub terminal: Terminal,
    /// When the client had ended.
    pub ended: Instant,
    /// How the client ended.
    pub status: ExitStatus,
}

/// The last event of an operation.
#[derive(Debug)]
pub struct Terminal {
    /// `succeeded`, `failed` or `cancelled`.
    pub kind: String,
    /// When the client was told.
    pub told: SystemTime,
}

impl Operation {
    /// Runs a `vela` command that prints events as JSON, and notes when it prints what.
    pub(crate) fn watch(mut command: Command) -> Result<Operation> {
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut switched = None;
        let mut provisioned = None;
        let mut terminal = None;
        for line in BufReader::new(stdout).lines() {
            let event: Value = serde_json::from_str(&line?)?;
            match event["kind"].as_str() {
                Some("step_finished") if event["step"] == "switch" => {
                    switched = Some(Instant::now());
                }
                Some("step_finished") if event["step"] == "provision" => {
                    provisioned = event["ms"].as_u64().map(Duration::from_millis);
                }
                Some(kind @ ("succeeded" | "failed" | "cancelled")) => {
                    terminal = Some(Terminal {
                        kind: kind.to_owned(),
                        told: SystemTime::now(),
                    });
                }
                _ => {}
            }
        }
        let output = child.wait_with_output()?;
        let terminal = terminal.ok_or_else(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("the operation did not end: {}", stderr.trim())
        })?;
        Ok(Operation {
            began,
            switched,
            provisioned,
            terminal,
            ended: Instant::now(),
            status: output.status,
        })
    }
}
