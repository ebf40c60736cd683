use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::{Attempt, Healthy, Probe, ProbeError, Target, Unhealthy};

/// No two attempts start closer together than this, whatever the policy says.
const SHORTEST_GAP: Duration = Duration::from_millis(1);

/// How often, how long and how patiently a probe is repeated.
///
/// ```
/// use std::time::Duration;
/// use vela_health::Policy;
///
/// let patient = Policy { grace: Duration::from_secs(60), ..Policy::default() };
/// assert_eq!(patient.retries, 30);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// From the start of one attempt to the start of the next; an attempt that takes longer is
    /// followed by the next at once. 1 s.
    pub interval: Duration,
    /// How long one attempt may take. 5 s.
    pub timeout: Duration,
    /// How many counted attempts may fail before the wait gives up. 30; 0 is taken as 1.
    pub retries: u32,
    /// How long attempts are made without counting them, for programs that are slow to start. 0.
    pub grace: Duration,
    /// The quick attempts at the begin.
    pub eager: Eager,
}

/// The attempts in the first moments, which come quickly and are not counted.
///
/// The gap between them grows with the time waited, to a tenth of it: what a program's start is
/// found out late by is at most a tenth of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eager {
    /// How long this lasts. 1 s; 0 means no eager attempts.
    pub window: Duration,
    /// The shortest time from the start of one attempt to the start of the next. 2 ms.
    pub interval: Duration,
}

impl Policy {
    /// Probes `target` until it is healthy.
    ///
    /// `exited` resolves when the instance ends; that ends the wait at once, before the first
    /// attempt, between two, or in the middle of one. It wins over an attempt that succeeds at
    /// the same moment: what answered can't have been the instance. Pass
    /// [`std::future::pending`] where nothing is known about the instance.
    ///
    /// `on_attempt` is called after each attempt.
    ///
    /// Cancel safe: dropping the future drops the attempt under way.
    ///
    /// # Errors
    ///
    /// [`Unhealthy::Exited`] with what `exited` gave, or [`Unhealthy::GaveUp`] with what the last
    /// attempt found.
    pub async fn wait<E>(
        &self,
        probe: &dyn Probe,
        target: &Target,
        exited: impl Future<Output = E>,
        on_attempt: impl FnMut(Attempt<'_>),
    ) -> Result<Healthy, Unhealthy<E>> {
        tokio::select! {
            biased;
            exit = exited => Err(Unhealthy::Exited(exit)),
            outcome = self.repeat(probe, target, on_attempt) => outcome,
        }
    }

    async fn repeat<E>(
        &self,
        probe: &dyn Probe,
        target: &Target,
        mut on_attempt: impl FnMut(Attempt<'_>),
    ) -> Result<Healthy, Unhealthy<E>> {
        let retries = self.retries.max(1);
        let uncounted = self.grace.max(self.eager.window);
        let began = Instant::now();
        let (mut attempts, mut counted) = (0, 0);
        loop {
            let started = began.elapsed();
            attempts += 1;
            let number = (started >= uncounted).then(|| {
                counted += 1;
                counted
            });

            let result = timeout(self.timeout, probe.check(target))
                .await
                .unwrap_or(Err(ProbeError::TimedOut {
                    after: self.timeout,
                }));
            let after = began.elapsed();
            on_attempt(Attempt {
                number,
                of: retries,
                elapsed: after,
                result: result.as_ref().copied(),
            });

            match result {
                Ok(()) => return Ok(Healthy { attempts, after }),
                Err(last) if counted >= retries => {
                    return Err(Unhealthy::GaveUp {
                        attempts,
                        after,
                        last,
                    });
                }
                Err(_) => {
                    sleep(
                        started
                            .saturating_add(self.gap(started))
                            .saturating_sub(after),
                    )
                    .await
                }
            }
        }
    }

    /// From the start of an attempt, `started` into the wait, to the start of the next.
    fn gap(&self, started: Duration) -> Duration {
        let gap = if started < self.eager.window {
            self.eager.interval.max(started / 10)
        } else {
            self.interval
        };
        gap.max(SHORTEST_GAP)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            retries: 30,
            grace: Duration::ZERO,
            eager: Eager::default(),
        }
    }
}

impl Default for Eager {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(1),
            interval: Duration::from_millis(2),
        }
    }
}
