use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What a connection waits for. Each has a time limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    FirstByte,
    Head,
    NextRequest,
    /// The upstream's word that the body is wanted.
    Continue,
    Body,
    Response,
    ResponseBody,
    Write,
    Linger,
}

/// A connection's one timer. Deadlines are set and cleared with each request and met seldom, so
/// that the timer is not moved with them: it fires once in a while, sees how far the deadline is,
/// and sleeps again.
#[derive(Debug)]
pub(crate) struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    waits: Option<(Wait, Instant)>,
    /// The longest that the timer sleeps: no longer than the shortest limit, so that no new
    /// deadline comes before the timer.
    nap: Duration,
}

impl Patience {
    /// `nap` is the shortest limit that will be set.
    pub(crate) fn new(nap: Duration) -> Patience {
        Patience {
            timer: None,
            waits: None,
            nap: nap.max(LEAST),
        }
    }

    /// Waits from now on, unless it waits for the same already.
    pub(crate) fn wait(&mut self, wait: Wait, limit: Duration) {
        self.begin(wait, limit);
    }

    /// The same. Gives since when, if it did not wait for it already.
    pub(crate) fn begin(&mut self, wait: Wait, limit: Duration) -> Option<Instant> {
        if self.waits.is_some_and(|(waits, _)| waits == wait) {
            return None;
        }
        let now = Instant::now();
        let limit = limit.max(LEAST);
        // A limit beyond the clock's range is no limit worth a timer: a year will do.
        let until = now.checked_add(limit).unwrap_or(now + YEAR);
        self.waits = Some((wait, until));
        Some(now)
    }

    /// What was awaited has come.
    pub(crate) fn end(&mut self) {
        self.waits = None;
    }

    /// Ready when the deadline has passed; never when none is set. One task must poll it for as
    /// long as it lives.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Wait> {
        let Some((wait, until)) = self.waits else {
            return Poll::Pending;
        };
        let nap = self.nap;
        let timer = match &mut self.timer {
            // It knows the task already.
            Some(timer) if !timer.is_elapsed() && timer.deadline() <= until => {
                return Poll::Pending;
            }
            Some(timer) => {
                let now = Instant::now();
                if now >= until {
                    return Poll::Ready(wait);
                }
                timer.as_mut().reset(until.min(now + nap));
                timer
            }
            None => {
                let first = until.min(Instant::now() + nap);
                self.timer.insert(Box::pin(sleep_until(first)))
            }
        };
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= until {
                return Poll::Ready(wait);
            }
            timer.as_mut().reset(until.min(now + nap));
        }
        Poll::Pending
    }
}

/// A shorter limit, none at all in particular, would end connections that do nothing wrong.
const LEAST: Duration = Duration::from_millis(10);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_limit_and_one_timer_serves_all() {
        let begun = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(4));
        patience.wait(Wait::Head, Duration::from_secs(5));
        patience.wait(Wait::Head, Duration::from_secs(1)); // waits already
        assert!(futures::poll!(poll_fn(|cx| patience.poll_over(cx))).is_pending());
        patience.wait(Wait::Body, Duration::from_secs(9));
        assert_eq!(poll_fn(|cx| patience.poll_over(cx)).await, Wait::Body);
        assert_eq!(begun.elapsed(), Duration::from_secs(9));

        patience.wait(Wait::Write, Duration::from_secs(60));
        assert!(futures::poll!(poll_fn(|cx| patience.poll_over(cx))).is_pending());
        patience.wait(Wait::Linger, Duration::from_secs(1));
        assert_eq!(poll_fn(|cx| patience.poll_over(cx)).await, Wait::Linger);
        assert_eq!(begun.elapsed(), Duration::from_secs(10));

        patience.end();
        assert!(futures::poll!(poll_fn(|cx| patience.poll_over(cx))).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_and_none_at_all() {
        let begun = Instant::now();
        let mut patience = Patience::new(Duration::ZERO);
        patience.wait(Wait::NextRequest, Duration::ZERO);
        poll_fn(|cx| patience.poll_over(cx)).await;
        assert_eq!(begun.elapsed(), LEAST);
        patience.wait(Wait::Body, Duration::MAX);
        assert!(futures::poll!(poll_fn(|cx| patience.poll_over(cx))).is_pending());
    }
}
