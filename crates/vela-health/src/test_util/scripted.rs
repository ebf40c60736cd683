use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use crate::{Probe, ProbeError, StatusMatch, Target};

/// A probe that does what it is told, one [`Step`] an attempt. The last step is repeated.
#[derive(Debug)]
pub struct ScriptedProbe {
    steps: Vec<Step>,
    attempts: Mutex<usize>,
}

/// What one attempt of a [`ScriptedProbe`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Succeeds at once.
    Pass,
    /// Succeeds after this time.
    PassAfter(Duration),
    /// Fails at once, with the status 503.
    Fail,
    /// Fails after this time, with the status 503.
    FailAfter(Duration),
    /// Never ends.
    Hang,
}

impl ScriptedProbe {
    /// A probe that follows `steps`; with none, it passes.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            attempts: Mutex::new(0),
        }
    }

    /// How many attempts were begun.
    #[must_use]
    pub fn attempts(&self) -> usize {
        *self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Step {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let step = self.steps.get(*attempts).or(self.steps.last()).copied();
        *attempts += 1;
        step.unwrap_or(Step::Pass)
    }
}

#[async_trait]
impl Probe for ScriptedProbe {
    async fn check(&self, _target: &Target) -> Result<(), ProbeError> {
        let (delay, healthy) = match self.next() {
            Step::Pass => return Ok(()),
            Step::Fail => (Duration::ZERO, false),
            Step::PassAfter(delay) => (delay, true),
            Step::FailAfter(delay) => (delay, false),
            Step::Hang => std::future::pending().await,
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if healthy {
            return Ok(());
        }
        Err(ProbeError::Status {
            expected: StatusMatch::default(),
            got: 503,
            line: Some("scripted".into()),
        })
    }
}
