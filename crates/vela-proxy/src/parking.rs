use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ParkLimits;

/// Where a parked route's requests wait.
#[derive(Debug)]
pub(crate) struct Lot {
    limits: ParkLimits,
    waiting: AtomicUsize,
    open: AtomicBool,
    opened: Notify,
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The route has changed: look again.
    Released,
    /// As many wait as may.
    Full,
    /// The request has waited as long as it may.
    TooLong,
}

impl Lot {
    pub(crate) fn new(limits: ParkLimits) -> Lot {
        Lot {
            limits,
            waiting: AtomicUsize::new(0),
            open: AtomicBool::new(false),
            opened: Notify::new(),
        }
    }

    pub(crate) fn limits(&self) -> ParkLimits {
        self.limits
    }

    /// Lets all go, those to come too. The table must have its new route before.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.opened.notify_waiters();
    }

    /// Waits for the opening. `since` is when the request was first parked. `counted` is called when
    /// it has a place, and what it gives is dropped with the place.
    pub(crate) async fn wait<C>(&self, since: Instant, counted: impl FnOnce() -> C) -> Waited {
        let mut opened = std::pin::pin!(self.opened.notified());
        opened.as_mut().enable();
        if self.open.load(Ordering::Acquire) {
            return Waited::Released;
        }
        let Some(_place) = Place::take(self) else {
            return Waited::Full;
        };
        let _counted = counted();
        match since.checked_add(self.limits.max_wait) {
            None => opened.await,
            Some(until) => {
                if tokio::time::timeout_at(until, opened).await.is_err() {
                    return Waited::TooLong;
                }
            }
        }
        Waited::Released
    }
}

/// One of the places of a lot, given back when the request goes, wherever it goes.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(lot: &'a Lot) -> Option<Place<'a>> {
        lot.waiting
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < lot.limits.max_requests).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Place(&lot.waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn lot(max_requests: usize) -> Arc<Lot> {
        Arc::new(Lot::new(ParkLimits {
            max_wait: Duration::from_secs(60),
            max_requests,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn waits_as_long_as_it_may_and_gives_its_place_back() {
        let lot = lot(1);
        let begun = Instant::now();
        assert_eq!(lot.wait(begun, || ()).await, Waited::TooLong);
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
        assert_eq!(lot.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn is_full_at_its_limit_and_released_all_at_once() {
        let lot = lot(2);
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let lot = Arc::clone(&lot);
                tokio::spawn(async move { lot.wait(Instant::now(), || ()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(lot.wait(Instant::now(), || ()).await, Waited::Full);
        lot.open();
        for each in waiting {
            assert_eq!(each.await.unwrap(), Waited::Released);
        }
        assert_eq!(lot.wait(Instant::now(), || ()).await, Waited::Released);
    }
}
