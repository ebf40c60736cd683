use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::patience::Patience;

/// A client's request body on its way to an upstream. It gives up a client that stalls, and
/// leaves word of how far it got.
#[derive(Debug, Default)]
pub(crate) struct RequestBody(Option<Flow>);

#[derive(Debug)]
struct Flow {
    body: Incoming,
    patience: Patience,
    limit: Duration,
    progress: Arc<Progress>,
}

/// How far a request's body got, for whoever waits for the response.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    moved_after_ms: AtomicU64,
    state: AtomicU8,
}

/// The states of a [`Progress`].
const MOVING: u8 = 0;
const DONE: u8 = 1;
const STALLED: u8 = 2;
const ABORTED: u8 = 3;

/// A request body that will not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client stalled in its request's body")]
    Stalled,
    #[error("the client's request body broke off")]
    Aborted(#[source] hyper::Error),
}

impl RequestBody {
    /// A body that is empty takes no bookkeeping: `None`.
    pub(crate) fn new(body: Incoming, limit: Duration) -> (RequestBody, Option<Arc<Progress>>) {
        if body.is_end_stream() {
            return (RequestBody(None), None);
        }
        let progress = Arc::new(Progress {
            begun: Instant::now(),
            moved_after_ms: AtomicU64::new(0),
            state: AtomicU8::new(MOVING),
        });
        let flow = Flow {
            body,
            patience: Patience::default(),
            limit,
            progress: Arc::clone(&progress),
        };
        (RequestBody(Some(flow)), Some(progress))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Progress {
    pub(crate) fn is_done(&self) -> bool {
        self.state.load(Ordering::Relaxed) == DONE
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.state.load(Ordering::Relaxed) == STALLED
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ABORTED
    }

    /// When the body last moved or ended.
    pub(crate) fn moved_at(&self) -> Instant {
        self.begun + Duration::from_millis(self.moved_after_ms.load(Ordering::Relaxed))
    }

    fn moved(&self, state: u8) {
        let after = self.begun.elapsed().as_millis();
        self.moved_after_ms
            .store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.state.store(state, Ordering::Relaxed);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(flow) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut flow.body).poll_frame(cx) else {
            flow.patience.begin(flow.limit);
            return flow.patience.poll_over(cx).map(|()| {
                flow.progress.moved(STALLED);
                Some(Err(BodyError::Stalled))
            });
        };
        flow.patience.end();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let ended = flow.body.is_end_stream();
                flow.progress.moved(if ended { DONE } else { MOVING });
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                flow.progress.moved(ABORTED);
                Some(Err(BodyError::Aborted(error)))
            }
            None => {
                flow.progress.moved(DONE);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|flow| flow.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(flow) => flow.body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
