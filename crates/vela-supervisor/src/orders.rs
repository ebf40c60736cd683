use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::connection::Outcome;
use crate::tree::KILL_DEADLINE;
use crate::wire::Command;
use crate::{Signal, Stop};

/// For messages on their way, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(2);

/// How long a keeper may take to end an instance: the grace, the kill, and then some.
pub(crate) fn patience(stop: &Stop) -> Duration {
    let grace = match stop.signal {
        Signal::Kill => Duration::ZERO,
        _ => stop.grace,
    };
    grace.saturating_add(KILL_DEADLINE + SLACK)
}

/// What a keeper is to be told. A stop is remembered, to be told again over the next connection;
/// a signal is told once, or never.
#[derive(Debug)]
pub(crate) struct Orders {
    commands: mpsc::UnboundedReceiver<Command>,
    stop: Option<Stop>,
    deadline: Option<Instant>,
}

impl Orders {
    pub(crate) fn new(commands: mpsc::UnboundedReceiver<Command>) -> Self {
        Self {
            commands,
            stop: None,
            deadline: None,
        }
    }

    /// The next command; `None` once nobody can give any. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        let command = self.commands.recv().await?;
        if let Command::Stop(stop) = command {
            self.remember(stop);
        }
        Some(command)
    }

    /// The strictest of the stops so far, none of which was heeded yet.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// When the keeper will have failed to heed it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The deadline has passed and was acted on.
    pub(crate) fn forget_deadline(&mut self) {
        self.deadline = None;
    }

    /// Without a connection: until it is time to try again.
    pub(crate) async fn wait(&mut self, pause: Duration) -> Outcome {
        let end = Some(Instant::now() + pause);
        loop {
            let deadline = self.deadline;
            tokio::select! {
                biased;
                command = self.next() => match command {
                    Some(Command::Stop(_)) => {}
                    Some(Command::Signal(signal)) => {
                        tracing::warn!(%signal, "a shim is out of reach of a signal");
                    }
                    None => return Outcome::Abandoned,
                },
                () = until(deadline) => return Outcome::Overdue,
                () = until(end) => return Outcome::Lost,
            }
        }
    }

    fn remember(&mut self, stop: Stop) {
        let deadline = Instant::now().checked_add(patience(&stop));
        self.deadline = match (self.deadline, deadline) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
        self.stop = Some(match self.stop {
            Some(before) if before.signal == Signal::Kill => before,
            Some(before) => Stop {
                grace: before.grace.min(stop.grace),
                ..stop
            },
            None => stop,
        });
    }
}

/// Until then; for ever without a then.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
