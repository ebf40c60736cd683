use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HeaderValue, LOCATION};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::connect::connect;
use crate::printable;
use crate::{Address, ProbeError, Target};

/// The longest head (status line and headers) that is read.
const MAX_HEAD: usize = 64 * 1024;

/// How much of a body is read. An answer that is read to its end spares the server the error of
/// a connection that its client resets.
const MAX_BODY: usize = 64 * 1024;

/// How long a body is read. The status is known by then, and a body that hangs or trickles must
/// not turn a plain 500 into a timeout.
const BODY_PATIENCE: Duration = Duration::from_millis(250);

/// How much of a body is kept, to find its first line.
const KEPT_BODY: usize = 1024;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where it leads, if it is a redirect: as it came, to be followed.
    pub(crate) location: Option<HeaderValue>,
    /// The first line of the body, or of a redirect its location; fit for a terminal.
    pub(crate) line: Option<String>,
}

/// Sends `request` over a fresh connection to `target`, which is closed afterwards.
pub(crate) async fn exchange(
    target: &Target,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, ProbeError> {
    let addr = &target.addr;
    let stream = connect(target).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| protocol(addr, error))?;

    let answer = async {
        match sender.send_request(request).await {
            Ok(response) => Ok(read(response).await),
            Err(error) => Err(protocol(addr, error)),
        }
    };
    // Driven here rather than by a task of its own, so that it can't outlive the attempt.
    let driver = async {
        // What ended the connection is told by the request's own result.
        drop(connection.await);
        pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        never = driver => match never {},
    }
}

async fn read(response: Response<Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let location = head
        .headers
        .get(LOCATION)
        .filter(|_| head.status.is_redirection())
        .cloned();
    let shown = location
        .as_ref()
        .and_then(|location| printable::line(location.as_bytes()));

    let mut kept = Vec::new();
    // Out of patience is as good as the end: the status decides.
    timeout(BODY_PATIENCE, drain(&mut body, &mut kept))
        .await
        .unwrap_or_default();
    Answer {
        status: head.status.as_u16(),
        // A blank one leads nowhere.
        location: location.filter(|_| shown.is_some()),
        line: match shown {
            Some(shown) => Some(format!("redirects to {shown}")),
            None => printable::first_line(&kept),
        },
    }
}

/// Reads the body to its end, its first error or its limit.
async fn drain(body: &mut Incoming, kept: &mut Vec<u8>) {
    let mut left = MAX_BODY;
    while left > 0 {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        left = left.saturating_sub(data.len());
        kept.extend(data.iter().take(KEPT_BODY - kept.len()));
    }
}

/// The error of a request, with hyper's own wording only where the cause has none.
fn protocol(addr: &Address, error: hyper::Error) -> ProbeError {
    let source: Box<dyn Error + Send + Sync> = Box::new(error);
    let addr = addr.clone();
    ProbeError::Protocol { addr, source }
}
