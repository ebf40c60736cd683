// The standard library's, or loom's in the model that `tests/pin_count_model.rs` checks.
use crate::atomic::{AtomicU64, Ordering};

/// The highest bit says that nothing may be pinned any more. Below it stand two numbers: the pins of
/// streams, 31 bits, and, lowest, those of requests, 32 bits.
const CLOSED: u64 = 1 << 63;
const STREAM: u64 = 1 << 32;
const REQUESTS: u64 = STREAM - 1;

/// How many users something has, and whether it takes new ones: one atomic, so that the last pin
/// and the closing cannot miss each other.
///
/// A pin is a request's at first and may become a stream's: one that does not end by itself.
#[derive(Debug)]
pub(crate) struct PinCount(AtomicU64);

impl PinCount {
    pub(crate) fn new() -> PinCount {
        PinCount(AtomicU64::new(0))
    }

    /// Adds a request's pin; `false` once closed. Whoever sees `false` also sees all that was written before
    /// the closing, in particular the table that no longer has what was closed.
    pub(crate) fn try_pin(&self) -> bool {
        let mut seen = self.0.load(Ordering::Acquire);
        while seen & CLOSED == 0 {
            match self
                .0
                .compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// A request's pin becomes a stream's. `true` as for [`unpin`](Self::unpin).
    pub(crate) fn become_stream(&self) -> bool {
        let before = self.0.fetch_add(STREAM - 1, Ordering::AcqRel);
        before & CLOSED != 0 && before & REQUESTS == 1
    }

    /// Takes a request's pin back; `true` if it was the last one after the closing.
    pub(crate) fn unpin(&self) -> bool {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        before & CLOSED != 0 && before & REQUESTS == 1
    }

    /// Takes a stream's pin back; `true` if it was the last one after the closing.
    pub(crate) fn unpin_stream(&self) -> bool {
        let before = self.0.fetch_sub(STREAM, Ordering::AcqRel);
        before & CLOSED != 0 && (before & !CLOSED) / STREAM == 1
    }

    /// No pin from now on. Idempotent.
    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    /// The pins of requests and those of streams, at one moment.
    pub(crate) fn pins(&self) -> (u64, u64) {
        let now = self.0.load(Ordering::Acquire);
        (now & REQUESTS, (now & !CLOSED) / STREAM)
    }
}
