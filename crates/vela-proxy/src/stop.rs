use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::curfew::Curfew;

/// Tells all workers and their connections to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_told: AtomicBool,
    until: Mutex<Option<Instant>>,
    told: Notify,
    /// How long streams go on then, at most: they rarely finish by themselves.
    streams: Duration,
    curfew: Curfew,
}

impl Stop {
    pub(crate) fn new(streams: Duration) -> Stop {
        Stop {
            streams,
            ..Stop::default()
        }
    }

    /// When streams end, whoever they go to.
    pub(crate) fn curfew(&self) -> &Curfew {
        &self.curfew
    }

    /// Whoever has something to finish may do so until then. Only the first one counts.
    pub(crate) fn tell(&self, until: Instant) {
        let rest = until.saturating_duration_since(Instant::now());
        self.curfew.hurry(self.streams.min(rest));
        {
            let mut at = self.until.lock().unwrap_or_else(PoisonError::into_inner);
            at.get_or_insert(until);
        }
        self.is_told.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    pub(crate) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Acquire)
    }

    /// Until when there is time to finish, once it has been told.
    pub(crate) fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is told.
    pub(crate) async fn wait(&self) {
        let mut told = std::pin::pin!(self.told.notified());
        told.as_mut().enable();
        if !self.is_told() {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout_at;

    use super::*;
    use crate::curfew::Bedtime;

    #[tokio::test]
    async fn the_first_word_counts() {
        let stop = Stop::default();
        assert!(futures::poll!(std::pin::pin!(stop.wait())).is_pending());
        let until = Instant::now();
        stop.tell(until);
        stop.tell(until + Duration::from_secs(1));
        stop.wait().await;
        assert!(stop.is_told());
        assert_eq!(stop.until(), Some(until));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_have_their_own_time_and_no_longer_than_all() {
        let (short, long) = (Duration::from_secs(2), Duration::from_secs(10));
        for (streams, all) in [(short, long), (long, short), (Duration::MAX, short)] {
            let stop = Stop::new(streams);
            let begun = Instant::now();
            stop.tell(begun + all);
            let mut bedtime = Bedtime::new([stop.curfew(); 2]);
            let ended = timeout_at(begun + short, poll_fn(|cx| bedtime.poll(cx)));
            assert!(ended.await.unwrap() <= begun + short);
        }
    }
}
