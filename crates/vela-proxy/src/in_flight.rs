use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::pin_count::PinCount;

/// A [`PinCount`] that can be waited for.
#[derive(Debug)]
pub(crate) struct InFlight {
    pins: PinCount,
    /// Told when the last pin of a kind goes after the closing.
    ended: Notify,
}

impl InFlight {
    pub(crate) fn new() -> InFlight {
        InFlight {
            pins: PinCount::new(),
            ended: Notify::new(),
        }
    }

    pub(crate) fn close(&self) {
        self.pins.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.pins.is_closed()
    }

    /// Everything in flight.
    pub(crate) fn count(&self) -> usize {
        let (requests, streams) = self.pins.pins();
        usize::try_from(requests + streams).unwrap_or(usize::MAX)
    }

    /// Waits until the last request has ended; streams may go on. It must have been closed before.
    pub(crate) async fn requests_ended(&self) {
        self.until(|(requests, _)| requests == 0).await;
    }

    /// Waits until there is no stream, whatever requests there are. It must have been closed
    /// before.
    pub(crate) async fn streams_ended(&self) {
        self.until(|(_, streams)| streams == 0).await;
    }

    /// Waits until the last pin of either kind has gone. It must have been closed before.
    pub(crate) async fn emptied(&self) {
        self.until(|pins| pins == (0, 0)).await;
    }

    async fn until(&self, ended: impl Fn((u64, u64)) -> bool) {
        let mut notified = std::pin::pin!(self.ended.notified());
        loop {
            notified.as_mut().enable();
            if ended(self.pins.pins()) {
                return;
            }
            notified.as_mut().await;
            notified.set(self.ended.notified());
        }
    }
}

impl AsRef<InFlight> for InFlight {
    fn as_ref(&self) -> &InFlight {
        self
    }
}

/// Keeps what it points at from being taken for unused.
#[derive(Debug)]
pub(crate) struct Pinned<T: AsRef<InFlight>> {
    of: Arc<T>,
    is_stream: bool,
}

impl<T: AsRef<InFlight>> Pinned<T> {
    /// A request's pin; `None` once closed.
    pub(crate) fn new(of: &Arc<T>) -> Option<Pinned<T>> {
        T::as_ref(of).pins.try_pin().then(|| Pinned {
            of: Arc::clone(of),
            is_stream: false,
        })
    }

    /// What it pins does not end by itself, as a request does.
    pub(crate) fn become_stream(&mut self) {
        if !std::mem::replace(&mut self.is_stream, true) {
            let in_flight = T::as_ref(&self.of);
            if in_flight.pins.become_stream() {
                in_flight.ended.notify_waiters();
            }
        }
    }
}

impl<T: AsRef<InFlight>> Deref for Pinned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.of
    }
}

impl<T: AsRef<InFlight>> Drop for Pinned<T> {
    fn drop(&mut self) {
        let in_flight = T::as_ref(&self.of);
        let was_last = match self.is_stream {
            true => in_flight.pins.unpin_stream(),
            false => in_flight.pins.unpin(),
        };
        if was_last {
            in_flight.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_the_last_pin() {
        let in_flight = Arc::new(InFlight::new());
        let pins: Vec<_> = (0..3).map(|_| Pinned::new(&in_flight).unwrap()).collect();
        in_flight.close();
        assert!(Pinned::new(&in_flight).is_none());
        let waiting = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(pins);
        waiting.await.unwrap();
        in_flight.emptied().await;
    }

    #[tokio::test]
    async fn streams_are_waited_for_apart() {
        let in_flight = Arc::new(InFlight::new());
        let mut stream = Pinned::new(&in_flight).unwrap();
        let request = Pinned::new(&in_flight).unwrap();
        in_flight.close();
        let requests = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.requests_ended().await }
        });
        let all = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.emptied().await }
        });
        drop(request);
        tokio::task::yield_now().await;
        assert!(!requests.is_finished());
        stream.become_stream();
        stream.become_stream();
        requests.await.unwrap();
        assert!(!all.is_finished());
        assert_eq!(in_flight.count(), 1);
        drop(stream);
        all.await.unwrap();
    }
}
