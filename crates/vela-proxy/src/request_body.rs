use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::headers::strip_claims;
use crate::moment::Moment;
use crate::patience::Patience;
use crate::turn::Turn;

/// A client's request body on its way to an upstream. It gives up a client that stalls while
/// nothing else happens, and leaves word of how far it got.
#[derive(Debug, Default)]
pub(crate) struct RequestBody(Option<Flow>);

#[derive(Debug)]
struct Flow {
    body: Incoming,
    patience: Patience,
    progress: Arc<Progress>,
    turn: Arc<Turn>,
}

/// How far a request's body got, for whoever waits for the response.
#[derive(Debug)]
pub(crate) struct Progress {
    /// How long the body may stall.
    limit: Duration,
    moved: Moment,
    state: AtomicU8,
    ended: Notify,
    is_answered: AtomicBool,
}

/// The states of a [`Progress`].
const MOVING: u8 = 0;
const DONE: u8 = 1;
const STALLED: u8 = 2;
const ABORTED: u8 = 3;
const UNWANTED: u8 = 4;

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
    pub(crate) fn new(
        body: Incoming,
        limit: Duration,
        turn: &Arc<Turn>,
    ) -> (RequestBody, Option<Arc<Progress>>) {
        if body.is_end_stream() {
            return (RequestBody(None), None);
        }
        let progress = Arc::new(Progress {
            limit,
            moved: Moment::new(),
            state: AtomicU8::new(MOVING),
            ended: Notify::new(),
            is_answered: AtomicBool::new(false),
        });
        let flow = Flow {
            body,
            patience: Patience::default(),
            progress: Arc::clone(&progress),
            turn: Arc::clone(turn),
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
        self.moved.at()
    }

    /// The response has begun. From now on the body may stall: whether the two take turns is the
    /// app's business.
    pub(crate) fn answered(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the body, for one waiter. `false` when it has not moved for as long as
    /// it may, be it the client that sends nothing or the upstream that takes nothing.
    pub(crate) async fn ended(&self) -> bool {
        let mut ended = pin!(self.ended.notified());
        while self.state.load(Ordering::Relaxed) == MOVING {
            let left = self.limit.saturating_sub(self.moved.at().elapsed());
            let has_ended = timeout(left, ended.as_mut()).await.is_ok();
            if has_ended || self.moved.at().elapsed() >= self.limit {
                return has_ended;
            }
        }
        true
    }

    /// Nothing more comes. What came to its end before stays so.
    fn end(&self, state: u8) {
        if self.state.load(Ordering::Relaxed) == MOVING {
            self.moved.mark();
            self.state.store(state, Ordering::Relaxed);
            self.ended.notify_one();
        }
    }
}

impl Flow {
    fn end(&self, state: u8) {
        if state == DONE {
            self.turn.body_read();
        }
        self.progress.end(state);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.end(UNWANTED);
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
            if flow.progress.is_answered.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            flow.patience.begin(flow.progress.limit);
            ready!(flow.patience.poll_over(cx));
            flow.end(STALLED);
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        };
        flow.patience.end();
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    strip_claims(trailers);
                }
                // hyper asks for nothing after trailers.
                if frame.is_trailers() || flow.body.is_end_stream() {
                    flow.end(DONE);
                } else {
                    flow.progress.moved.mark();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                flow.end(ABORTED);
                Some(Err(BodyError::Aborted(error)))
            }
            None => {
                flow.end(DONE);
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncWriteExt, DuplexStream};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// A client that has sent a head and this much of its body.
    async fn begun(sent: &str) -> (DuplexStream, RequestBody, Arc<Progress>, Arc<Turn>) {
        let (mut client, server) = tokio::io::duplex(1024);
        let (got, mut bodies) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            got.send(request.into_body()).unwrap();
            std::future::pending::<Result<Response<String>, Infallible>>()
        });
        let serving = http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(server), service);
        tokio::spawn(serving);
        let head = "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n";
        client
            .write_all(format!("{head}{sent}").as_bytes())
            .await
            .unwrap();
        let turn = Arc::new(Turn::new());
        turn.begin(true);
        let body = bodies.recv().await.unwrap();
        let (body, progress) = RequestBody::new(body, LIMIT, &turn);
        (client, body, progress.unwrap(), turn)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_stall_behind_a_response_and_not_after_it() {
        let (_client, mut body, progress, turn) = begun("3\r\nabc\r\n").await;
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.data_ref().unwrap(), "abc");
        // A limit that runs already does not count any more.
        assert!(timeout(LIMIT / 2, body.frame()).await.is_err());
        progress.answered();
        assert!(timeout(LIMIT * 10, body.frame()).await.is_err());
        assert!(!progress.ended().await);
        assert!(turn.is_body_unread());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_is_waited_for() {
        let (mut client, mut body, progress, _) = begun("").await;
        progress.answered();
        let sending = async {
            for _ in 0..5 {
                tokio::time::sleep(LIMIT * 2 / 3).await;
                client.write_all(b"1\r\nx\r\n").await.unwrap();
                body.frame().await.unwrap().unwrap();
            }
            drop(client);
            body.frame().await.unwrap().unwrap_err();
        };
        assert!(tokio::join!(sending, progress.ended()).1);
        assert!(progress.is_aborted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_before_the_response_is_given_up() {
        let (_client, mut body, progress, _) = begun("").await;
        let begun = Instant::now();
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(begun.elapsed(), LIMIT);
        assert!(progress.is_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_end_a_body_and_make_no_claims() {
        let trailers =
            "x-forwarded-for: 6.6.6.6\r\nx_real_ip: 6\r\nforwarded: for=6\r\nx-sum: 1\r\n";
        let (_client, mut body, progress, turn) =
            begun(&format!("3\r\nabc\r\n0\r\n{trailers}\r\n")).await;
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(!progress.is_done());
        let trailers = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(
            trailers
                .keys()
                .map(|name| name.as_str())
                .collect::<Vec<_>>(),
            ["x-sum"]
        );
        assert!(progress.is_done() && !turn.is_body_unread());
        assert!(progress.ended().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_wants_has_ended() {
        let (_client, body, progress, turn) = begun("").await;
        drop(body);
        assert!(progress.ended().await);
        // It is not the client that broke it off.
        assert!(!progress.is_aborted() && !progress.is_done() && turn.is_body_unread());
    }
}
