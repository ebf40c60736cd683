use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that is set and cleared often and met seldom: its timer is touched only when the
/// deadline has come nearer or the timer has fired.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    until: Option<Instant>,
}

impl Patience {
    /// Starts waiting, unless it waits already.
    pub(crate) fn begin(&mut self, limit: Duration) {
        if self.until.is_none() {
            self.restart(limit);
        }
    }

    /// Starts waiting anew.
    pub(crate) fn restart(&mut self, limit: Duration) {
        self.set(Instant::now(), limit);
    }

    /// Waits from a moment on that may have passed already.
    pub(crate) fn set(&mut self, since: Instant, limit: Duration) {
        let limit = limit.max(LEAST);
        // A limit beyond the clock's range is no limit worth a timer: a year will do.
        self.until = since.checked_add(limit).or_else(|| since.checked_add(YEAR));
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.until.is_some()
    }

    /// What was awaited has come.
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// Ready when the deadline has passed; never when none is set.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

/// A shorter limit, none at all in particular, would have whoever starts anew when it is over
/// start anew without end.
const LEAST: Duration = Duration::from_millis(10);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_later_deadline_reuses_the_timer_and_an_earlier_one_moves_it() {
        let begun = Instant::now();
        let mut patience = Patience::default();
        patience.begin(Duration::from_secs(5));
        patience.begin(Duration::from_secs(1)); // waits already
        assert!(futures::poll!(poll_fn(|cx| patience.poll_over(cx))).is_pending());
        patience.restart(Duration::from_secs(9));
        poll_fn(|cx| patience.poll_over(cx)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(9));

        patience.restart(Duration::from_secs(60));
        assert!(futures::poll!(poll_fn(|cx| patience.poll_over(cx))).is_pending());
        patience.restart(Duration::from_secs(1));
        poll_fn(|cx| patience.poll_over(cx)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(10));

        patience.end();
        assert!(futures::poll!(poll_fn(|cx| patience.poll_over(cx))).is_pending());
    }
}
