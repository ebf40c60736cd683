use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tokio::time::Instant;

use crate::moment::Moment;

/// Whose turn it is on a client's connection: shared by its socket, which must know whether it
/// reads a head, and its requests.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The requests that have begun and those that have ended, together.
    number: AtomicU64,
    /// More than one only for a moment: a pipelined request may begin before the one before it
    /// has seen the end of its body.
    ongoing: AtomicU32,
    ended: Moment,
    body_unread: AtomicBool,
}

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn {
            number: AtomicU64::new(0),
            ongoing: AtomicU32::new(0),
            ended: Moment::new(),
            body_unread: AtomicBool::new(false),
        }
    }

    /// A head is complete.
    pub(crate) fn begin(&self, has_body: bool) {
        self.body_unread.store(has_body, Ordering::Relaxed);
        self.ongoing.fetch_add(1, Ordering::Relaxed);
        self.number.fetch_add(1, Ordering::Relaxed);
    }

    /// The request's body has been read to its end.
    pub(crate) fn body_read(&self) {
        if self.ongoing.load(Ordering::Relaxed) == 1 {
            self.body_unread.store(false, Ordering::Relaxed);
        }
    }

    /// A response is complete, and nobody reads the request's body any more.
    pub(crate) fn end(&self) {
        self.ended.mark();
        self.ongoing.fetch_sub(1, Ordering::Relaxed);
        self.number.fetch_add(1, Ordering::Relaxed);
    }

    /// Zero before the first request, and another one whenever a request has begun or ended.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    pub(crate) fn is_ongoing(&self) -> bool {
        self.ongoing.load(Ordering::Relaxed) > 0
    }

    /// Whether what comes now may belong to the body of the last request, which nobody wanted.
    pub(crate) fn is_body_unread(&self) -> bool {
        self.body_unread.load(Ordering::Relaxed)
    }

    /// When a request last ended.
    pub(crate) fn ended_at(&self) -> Instant {
        self.ended.at()
    }
}
