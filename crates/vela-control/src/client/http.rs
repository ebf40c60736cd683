use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderValue;
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use vela_protocol::{ApiError, ErrorCode};

use super::ClientError;
use crate::headers::{CLIENT, PROTOCOL};
use crate::transport::Transport;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Requests that answer at once get this long.
const QUICK: Duration = Duration::from_secs(30);
/// The longest answer of one piece.
const MAX_ANSWER: usize = 64 << 20;
/// All but what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// HTTP/1.1 over a transport: connections are used again, one request at a time each.
#[derive(Clone)]
pub(super) struct Http {
    transport: Arc<dyn Transport>,
    idle: Arc<Mutex<Vec<SendRequest<Body>>>>,
    /// Who this client says it is.
    name: Option<HeaderValue>,
}

/// A request that can be made again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    /// JSON, or nothing.
    pub(super) body: Bytes,
    /// Whether doing it twice is as good as once, so that it may be sent again when a used connection turns out closed.
    pub(super) idempotent: bool,
    /// Whether the daemon answers without waiting for anything.
    pub(super) quick: bool,
}

impl Http {
    pub(super) fn new(transport: Arc<dyn Transport>) -> Http {
        Http {
            transport,
            idle: Arc::default(),
            name: None,
        }
    }

    pub(super) fn named(mut self, name: &str) -> Http {
        self.name = HeaderValue::from_str(name).ok();
        self
    }

    pub(super) fn address(&self) -> String {
        self.transport.address()
    }

    /// Makes a call and gives the answer's head; its body is read by the caller. Only a success comes back as `Ok`.
    pub(super) async fn call(&self, call: &Call) -> Result<Response<Incoming>, ClientError> {
        let mut broken = None;
        if let Some(mut used) = self.take_idle() {
            match self
                .timed(call, used.try_send_request(self.request(call)))
                .await
            {
                Ok(answer) => return self.finish(used, answer).await,
                // The daemon had closed it meanwhile.
                Err(failed) if failed.unsent || call.idempotent => broken = Some(failed.source),
                Err(failed) => return Err(self.lost(failed.source)),
            }
        }
        let mut fresh = match (self.open().await, broken) {
            (Ok(fresh), _) => fresh,
            // There was a daemon a moment ago: it was lost, and may be back soon.
            (Err(ClientError::Unreachable(error)), Some(source)) if error.is_transient() => {
                return Err(self.lost(source));
            }
            (Err(error), _) => return Err(error),
        };
        match self
            .timed(call, fresh.try_send_request(self.request(call)))
            .await
        {
            Ok(answer) => self.finish(fresh, answer).await,
            Err(failed) => Err(self.lost(failed.source)),
        }
    }

    /// Makes a call and reads its whole answer.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ClientError> {
        let answer = self.call(call).await?;
        let body = self.read(answer).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()))
    }

    /// Makes a call whose answer is no JSON, and reads it.
    pub(super) async fn text(&self, call: &Call) -> Result<String, ClientError> {
        let answer = self.call(call).await?;
        let body = self.read(answer).await?;
        String::from_utf8(body.into()).map_err(|error| self.strange(error.to_string()))
    }

    /// A connection that seems to be open, for a body that cannot be sent twice.
    pub(super) async fn ready(&self) -> Result<SendRequest<Body>, ClientError> {
        match self.take_idle() {
            Some(used) => Ok(used),
            None => self.open().await,
        }
    }

    async fn open(&self) -> Result<SendRequest<Body>, ClientError> {
        let io = self
            .transport
            .connect()
            .await
            .map_err(ClientError::Unreachable)?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| self.lost(io::Error::other(error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The request that suffers from it reports it; without one it is no news.
                tracing::debug!(%error, "a connection to the daemon ended");
            }
        });
        Ok(sender)
    }

    /// Keeps the connection for the next call, and tells a success from an error.
    pub(super) async fn finish(
        &self,
        sender: SendRequest<Body>,
        answer: Response<Incoming>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.locked().push(sender);
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let theirs = answer
            .headers()
            .get(PROTOCOL)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<u32>().ok());
        let body = self.read(answer).await?;
        match (serde_json::from_slice::<ApiError>(&body), theirs) {
            (Ok(error), Some(server)) if error.code == ErrorCode::Version => {
                Err(ClientError::Version { server })
            }
            (Ok(error), _) => Err(ClientError::Api(error)),
            (Err(_), _) => Err(self.strange(plain_answer(status, &body))),
        }
    }

    pub(super) fn lost(&self, source: io::Error) -> ClientError {
        ClientError::Lost {
            address: self.address(),
            source,
        }
    }

    pub(super) fn strange(&self, what: String) -> ClientError {
        ClientError::Protocol {
            address: self.address(),
            what,
        }
    }

    pub(super) async fn read(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER);
        match body.collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.lost(io::Error::other(error))),
        }
    }

    /// The head that all requests share. The daemon's name does not matter, but HTTP/1.1 wants one.
    pub(super) fn head(&self, method: Method, path: &str) -> Builder {
        let mut head = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "vela")
            .header(PROTOCOL, vela_protocol::VERSION);
        if let Some(name) = &self.name {
            head = head.header(CLIENT, name);
        }
        head
    }

    fn request(&self, call: &Call) -> Request<Body> {
        let body = Full::new(call.body.clone()).map_err(|never| match never {});
        self.head(call.method.clone(), &call.path)
            .header("content-type", "application/json")
            .body(body.boxed_unsync())
            .expect("paths are made of percent-encoded segments")
    }

    async fn timed(
        &self,
        call: &Call,
        answer: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>,
    ) -> Result<Response<Incoming>, Failed> {
        let answer = async { answer.await.map_err(Failed::from) };
        match call.quick {
            false => answer.await,
            true => match tokio::time::timeout(QUICK, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(Failed {
                    unsent: false,
                    source: io::Error::new(io::ErrorKind::TimedOut, "no answer in 30 seconds"),
                }),
            },
        }
    }

    /// A connection whose last answer was read to its end.
    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.locked();
        idle.retain(|sender| !sender.is_closed());
        let at = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(at))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Body>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    pub(super) fn get(path: String) -> Call {
        Call {
            method: Method::GET,
            path,
            body: Bytes::new(),
            idempotent: true,
            quick: true,
        }
    }

    /// A call that changes something and must not happen twice unasked.
    pub(super) fn change(method: Method, path: String, body: Bytes) -> Call {
        Call {
            method,
            path,
            body,
            idempotent: false,
            quick: false,
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Http").field(&self.transport).finish()
    }
}

/// A text as one segment of a path or as a value of a query.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

struct Failed {
    /// Whether the daemon has not seen a byte of it.
    unsent: bool,
    source: io::Error,
}

impl From<TrySendError<Request<Body>>> for Failed {
    fn from(mut error: TrySendError<Request<Body>>) -> Failed {
        Failed {
            unsent: error.take_message().is_some(),
            source: io::Error::other(error.into_error()),
        }
    }
}

fn plain_answer(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    match text.lines().next() {
        Some(line) => format!("{status}, {}", line.escape_debug()),
        None => status.to_string(),
    }
}
