use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use uuid::Uuid;
use vela_protocol::Envelope;

use super::ClientError;
use super::http::{Call, Http};
use super::lines::Lines;

/// How often a lost operation is looked for before it is given up: 16 seconds in all.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The events of one operation, to its end.
///
/// A stream that ends without a terminal event was cut: this one then attaches to the operation again, from where it
/// was, and gives no event twice. After eight attempts in a row without an event it gives the last attempt's error.
/// The operation belongs to the daemon: dropping the stream cancels nothing.
#[must_use = "the events say how the operation ends"]
pub struct EventStream {
    state: State,
}

/// What an [`EventStream`] reports while it looks for an operation that it lost.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reconnecting<'a> {
    /// Which attempt follows, counted from 1.
    pub attempt: u32,
    /// How many there will be.
    pub of: u32,
    /// How long until then.
    pub pause: Duration,
    /// Why the last one ended.
    pub cause: &'a ClientError,
}

type Notify = Box<dyn FnMut(Reconnecting<'_>) + Send>;
type Next = (Box<Attached>, Option<Result<Envelope, ClientError>>);

enum State {
    Idle(Box<Attached>),
    Waiting(BoxFuture<'static, Next>),
    Ended,
}

/// An operation, and how far its events were read.
struct Attached {
    http: Http,
    /// The request that began it. It can be repeated: the operation's id makes it the same one.
    begin: Option<Call>,
    deploy: Uuid,
    next_seq: u64,
    lines: Option<Lines>,
    failures: u32,
    notify: Option<Notify>,
    ended: bool,
}

impl EventStream {
    pub(super) async fn begin(
        http: Http,
        call: Call,
        deploy: Uuid,
    ) -> Result<EventStream, ClientError> {
        EventStream::open(http, call, deploy, 0, true).await
    }

    pub(super) async fn attach(
        http: Http,
        deploy: Uuid,
        from: u64,
    ) -> Result<EventStream, ClientError> {
        let call = events_call(deploy, from);
        EventStream::open(http, call, deploy, from, false).await
    }

    async fn open(
        http: Http,
        call: Call,
        deploy: Uuid,
        from: u64,
        begins: bool,
    ) -> Result<EventStream, ClientError> {
        let lines = match http.call(&call).await {
            Ok(answer) => Some(Lines::new(answer.into_body())),
            // It was sent, so it may have begun: whoever asks again finds out.
            Err(ClientError::Lost { .. }) => None,
            Err(error) => return Err(error),
        };
        let attached = Attached {
            http,
            begin: begins.then_some(call),
            deploy,
            next_seq: from,
            lines,
            failures: 0,
            notify: None,
            ended: false,
        };
        Ok(EventStream {
            state: State::Idle(Box::new(attached)),
        })
    }

    /// Calls `notify` whenever the operation was lost and is about to be looked for.
    pub fn on_reconnect(
        mut self,
        notify: impl FnMut(Reconnecting<'_>) + Send + 'static,
    ) -> EventStream {
        if let State::Idle(attached) = &mut self.state {
            attached.notify = Some(Box::new(notify));
        }
        self
    }
}

impl Stream for EventStream {
    type Item = Result<Envelope, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(attached) if attached.ended => return Poll::Ready(None),
                State::Idle(attached) => self.state = State::Waiting(Box::pin(attached.next())),
                State::Waiting(mut next) => {
                    let Poll::Ready((attached, item)) = next.as_mut().poll(cx) else {
                        self.state = State::Waiting(next);
                        return Poll::Pending;
                    };
                    self.state = State::Idle(attached);
                    return Poll::Ready(item);
                }
            }
        }
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl Attached {
    async fn next(mut self: Box<Self>) -> Next {
        let item = self.event().await;
        self.ended = match &item {
            Ok(envelope) => envelope.event.is_terminal(),
            Err(_) => true,
        };
        (self, Some(item))
    }

    async fn event(&mut self) -> Result<Envelope, ClientError> {
        loop {
            let error = match self.read().await {
                Ok(envelope) => return Ok(envelope),
                Err(error) => error,
            };
            self.lines = None;
            if !error.is_transient() || self.failures == ATTEMPTS {
                return Err(error);
            }
            let pause = (FIRST_PAUSE * 2u32.pow(self.failures)).min(LONGEST_PAUSE);
            self.failures += 1;
            if let Some(notify) = &mut self.notify {
                notify(Reconnecting {
                    attempt: self.failures,
                    of: ATTEMPTS,
                    pause,
                    cause: &error,
                });
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The next event of the present connection, or of a new one.
    async fn read(&mut self) -> Result<Envelope, ClientError> {
        let lines = match &mut self.lines {
            Some(lines) => lines,
            None => {
                let call = match &self.begin {
                    Some(begin) if self.next_seq == 0 => begin.clone(),
                    _ => events_call(self.deploy, self.next_seq),
                };
                let answer = self.http.call(&call).await?;
                self.lines.insert(Lines::new(answer.into_body()))
            }
        };
        loop {
            let envelope: Envelope = match lines.next().await {
                Some(Ok(envelope)) => envelope,
                Some(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return Err(self.http.strange(error.to_string()));
                }
                Some(Err(error)) => return Err(self.http.lost(error)),
                None => {
                    let error = std::io::ErrorKind::UnexpectedEof;
                    return Err(self.http.lost(error.into()));
                }
            };
            // A terminal event is never a repetition, even if a restarted daemon counts it like one that it lost.
            if envelope.seq >= self.next_seq || envelope.event.is_terminal() {
                self.next_seq = envelope.seq + 1;
                self.failures = 0;
                return Ok(envelope);
            }
        }
    }
}

fn events_call(deploy: Uuid, from: u64) -> Call {
    Call {
        quick: false,
        ..Call::get(format!("/v1/deploys/{deploy}/events?from={from}"))
    }
}
