use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::report::FailureKind;

/// What went wrong with one request, before it is known when.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FailureKind,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(kind: FailureKind, detail: impl Into<String>) -> Fault {
        let detail = detail.into();
        Fault { kind, detail }
    }

    /// With the whole chain of causes: hyper's own message says little.
    fn caused(kind: FailureKind, error: &dyn std::error::Error) -> Fault {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let chain: Vec<String> = chain.map(ToString::to_string).collect();
        Fault::new(kind, chain.join(": "))
    }
}

/// One client connection to the proxy.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    host: HeaderValue,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) release: Option<HeaderValue>,
    /// Whether the body's first line is the release of the header.
    pub(super) consistent: bool,
    pub(super) length: usize,
    /// Whether the server announced that it closes the connection.
    pub(super) close: bool,
}

impl Connection {
    pub(super) async fn open(addr: SocketAddr, host: &HeaderValue) -> Result<Connection, Fault> {
        let failed = |error: &dyn std::error::Error| Fault::caused(FailureKind::Connect, error);
        let stream = TcpStream::connect(addr).await.map_err(|e| failed(&e))?;
        stream.set_nodelay(true).map_err(|e| failed(&e))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(&e))?;
        // What ends the connection early ends the request on it, which reports it.
        tokio::spawn(connection.with_upgrades());
        let host = host.clone();
        Ok(Connection { sender, host })
    }

    /// Asks once. `last` announces that the connection is not used again.
    pub(super) async fn get(&mut self, path: &str, last: bool) -> Result<Answer, Fault> {
        let mut request = Request::get(path);
        if last {
            request = request.header(CONNECTION, "close");
        }
        let (head, mut body) = self.send(request).await?.into_parts();
        let release = head.headers.get("x-release").cloned();
        let (mut length, mut consistent) = (0, true);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fault::caused(FailureKind::Lost, &error))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if let Some(release) = release.as_ref().filter(|_| length == 0) {
                consistent = data.starts_with(release.as_bytes());
            }
            length += data.len();
        }
        let close = head.headers.get(CONNECTION);
        Ok(Answer {
            status: head.status,
            release,
            consistent,
            length,
            close: close.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close")),
        })
    }

    /// Sends a request without a body; the answer's body is still to be read.
    pub(super) async fn send(
        &mut self,
        request: hyper::http::request::Builder,
    ) -> Result<Response<hyper::body::Incoming>, Fault> {
        let request = request
            .header(HOST, self.host.clone())
            .body(Empty::new())
            .map_err(|error| Fault::caused(FailureKind::Connect, &error))?;
        let lost = |error: hyper::Error| Fault::caused(FailureKind::Lost, &error);
        self.sender.ready().await.map_err(lost)?;
        self.sender.send_request(request).await.map_err(lost)
    }
}
