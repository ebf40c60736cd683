use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Whether an upstream that has others beside it is asked while these are.
///
/// It is ejected when it refuses a connection, or when it has lost [`LOSSES`] requests in a row.
/// Without the latter, one that accepts connections and does nothing but end them would always
/// have the least in flight, and get nearly all requests. A probe brings it back.
#[derive(Debug, Default)]
pub(crate) struct Health {
    is_ejected: AtomicBool,
    /// In a row.
    failures: AtomicU32,
    /// Without an answer between them.
    ejections: AtomicU32,
}

/// How many requests in a row may be lost. Envoy's outlier detection has the same default.
const LOSSES: u32 = 5;
/// How long after an ejection the first probe comes; each next one comes after twice the time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Health {
    pub(crate) fn is_ejected(&self) -> bool {
        self.is_ejected.load(Ordering::Relaxed)
    }

    /// It has begun a response.
    pub(crate) fn answered(&self) {
        // Hardly ever: what all workers read is not written to.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// It takes no connection. Gives how long to wait with a probe, if it is ejected by this.
    pub(crate) fn refused(&self) -> Option<Pauses> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.eject()
    }

    /// It took a request and did not respond. Gives the same.
    pub(crate) fn lost(&self) -> Option<Pauses> {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        // Once it is back the next loss is one too many, until it has answered.
        (before + 1 >= LOSSES).then(|| self.eject()).flatten()
    }

    /// It takes connections again.
    pub(crate) fn restore(&self) {
        self.is_ejected.store(false, Ordering::Relaxed);
    }

    fn eject(&self) -> Option<Pauses> {
        if self.is_ejected.swap(true, Ordering::Relaxed) {
            return None;
        }
        let before = self.ejections.fetch_add(1, Ordering::Relaxed);
        Some(Pauses {
            next: (FIRST_PAUSE * 2u32.saturating_pow(before.min(5))).min(LONGEST_PAUSE),
        })
    }
}

/// The times before the probes of one ejection.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(pauses: Option<Pauses>) -> Vec<u64> {
        let pauses = pauses.expect("an ejection");
        pauses.take(3).map(|pause| pause.as_secs()).collect()
    }

    #[test]
    fn a_refusal_ejects_once_and_the_fifth_loss_does() {
        let health = Health::default();
        assert_eq!(seconds(health.refused()), [1, 2, 4]);
        assert!(health.is_ejected() && health.refused().is_none());

        let health = Health::default();
        for _ in 0..2 {
            for _ in 1..LOSSES {
                assert!(health.lost().is_none());
            }
            health.answered();
        }
        for _ in 1..LOSSES {
            assert!(health.lost().is_none());
        }
        assert_eq!(seconds(health.lost()), [1, 2, 4]);
        assert!(health.lost().is_none());
    }

    #[test]
    fn who_comes_back_without_an_answer_waits_longer_the_next_time() {
        let health = Health::default();
        for expected in [[1, 2, 4], [2, 4, 8], [4, 8, 16], [8, 16, 30]] {
            assert_eq!(seconds(health.refused()), expected);
            health.restore();
            assert!(!health.is_ejected());
        }
        for _ in 0..40 {
            health.refused();
            health.restore();
        }
        assert_eq!(seconds(health.lost()), [30, 30, 30]);
        health.restore();
        health.answered();
        assert!(health.lost().is_none());
        assert_eq!(seconds(health.refused()), [1, 2, 4]);
    }
}
