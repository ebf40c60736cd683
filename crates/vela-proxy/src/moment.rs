use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// An instant that is moved on by one and read by others, to the millisecond.
#[derive(Debug)]
pub(crate) struct Moment {
    begun: Instant,
    after_ms: AtomicU64,
}

impl Moment {
    /// Now.
    pub(crate) fn new() -> Moment {
        Moment {
            begun: Instant::now(),
            after_ms: AtomicU64::new(0),
        }
    }

    /// Moves it on to now.
    pub(crate) fn mark(&self) {
        let after = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.after_ms.store(after, Ordering::Relaxed);
    }

    pub(crate) fn at(&self) -> Instant {
        self.begun + Duration::from_millis(self.after_ms.load(Ordering::Relaxed))
    }
}
