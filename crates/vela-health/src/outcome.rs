use std::time::Duration;

use crate::ProbeError;

/// One attempt that just ended, as [`Policy::wait`](crate::Policy::wait) reports it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Its number, from 1; `None` while attempts are not counted (the eager window and the grace
    /// period).
    pub number: Option<u32>,
    /// How many counted attempts there are at most.
    pub of: u32,
    /// The time since the wait began.
    pub elapsed: Duration,
    /// What it found.
    pub result: Result<(), &'a ProbeError>,
}

/// The instance answered as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Healthy {
    /// How many attempts were made, counted or not, the good one included.
    pub attempts: u32,
    /// The time from the begin of the wait to the answer.
    pub after: Duration,
}

/// Why the wait for a healthy instance ended without one. `E` is what the caller knows about the
/// instance's end.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy<E> {
    /// The instance is gone.
    #[error("the instance exited before it was healthy")]
    Exited(E),

    /// All attempts failed.
    #[error("not healthy after {attempts} attempts in {:.1} s", .after.as_secs_f64())]
    GaveUp {
        /// How many attempts were made, counted or not.
        attempts: u32,
        /// The time from the begin of the wait to the end of the last attempt.
        after: Duration,
        /// What the last attempt found.
        #[source]
        last: ProbeError,
    },
}
