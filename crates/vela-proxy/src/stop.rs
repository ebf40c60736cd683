use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Tells all workers and their connections to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_told: AtomicBool,
    until: Mutex<Option<Instant>>,
    told: Notify,
}

impl Stop {
    /// Whoever has something to finish may do so until then. Only the first one counts.
    pub(crate) fn tell(&self, until: Instant) {
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
    use super::*;

    #[tokio::test]
    async fn the_first_word_counts() {
        let stop = Stop::default();
        assert!(futures::poll!(std::pin::pin!(stop.wait())).is_pending());
        let until = Instant::now();
        stop.tell(until);
        stop.tell(until + std::time::Duration::from_secs(1));
        stop.wait().await;
        assert!(stop.is_told());
        assert_eq!(stop.until(), Some(until));
    }
}
