use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::dial::dial;
use crate::failure::Failure;
use crate::generation::Generation;
use crate::pool::Connection;
use crate::request_body::{Progress, RequestBody};
use crate::stats::count;
use crate::worker::Worker;

/// How old an unused connection may be for a request that could not be repeated should the
/// upstream close it at that moment.
const FRESH: Duration = Duration::from_secs(1);

/// An upstream's response, and the connection that it comes by.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
    pub(crate) upstream: usize,
}

/// Why there is no response.
pub(crate) enum Unanswered {
    /// No upstream was sent any of it: it may go elsewhere.
    Unsent(Box<Request<RequestBody>>, Failure),
    /// It may have had its effect.
    Failed(Failure),
}

/// Sends a request to one of the generation's upstreams. It goes to another connection or
/// upstream as long as that is safe: when it was not sent, or when it is idempotent, has no body,
/// and met a kept connection that the upstream was just closing.
pub(crate) async fn call(
    worker: &Worker,
    generation: &Generation,
    mut request: Request<RequestBody>,
    progress: Option<&Arc<Progress>>,
) -> Result<Answered, Unanswered> {
    let counters = &worker.counters;
    let mut failure = Failure::Unreachable;
    for upstream in generation.candidates() {
        let mut may_reuse = true;
        loop {
            let repeatable = is_repeatable(&request);
            let max_age = if repeatable { Duration::MAX } else { FRESH };
            let kept = may_reuse
                .then(|| worker.pool.take(generation, upstream, max_age))
                .flatten();
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => match dial(&generation.upstreams[upstream], &worker.config).await {
                    Ok(connection) => connection,
                    Err(refused) => {
                        count(&counters.upstream_errors);
                        failure = refused;
                        break;
                    }
                },
            };
            let copy = (reused && repeatable).then(|| copy(&request));
            match (send(&mut connection, request, progress, worker).await, copy) {
                (Ok(response), _) => {
                    return Ok(Answered {
                        response,
                        connection,
                        upstream,
                    });
                }
                (Err(NotAnswered::Unsent(unsent)), _) => {
                    request = *unsent;
                    count(&counters.retries);
                    if !reused {
                        count(&counters.upstream_errors);
                        failure = Failure::Lost;
                        break;
                    }
                }
                (Err(NotAnswered::Failed(Failure::Lost)), Some(copy)) => {
                    request = copy;
                    count(&counters.retries);
                    // The other kept ones are likely to be as dead.
                    may_reuse = false;
                }
                (Err(NotAnswered::Failed(failure)), _) => {
                    if failure.is_upstreams() {
                        count(&counters.upstream_errors);
                    }
                    return Err(Unanswered::Failed(failure));
                }
            }
        }
    }
    Err(Unanswered::Unsent(Box::new(request), failure))
}

/// How one attempt on one connection failed.
enum NotAnswered {
    Unsent(Box<Request<RequestBody>>),
    Failed(Failure),
}

async fn send(
    connection: &mut Connection,
    request: Request<RequestBody>,
    progress: Option<&Arc<Progress>>,
    worker: &Worker,
) -> Result<Response<Incoming>, NotAnswered> {
    let limit = worker.config.timeouts.response;
    let mut response = std::pin::pin!(connection.sender.try_send_request(request));
    let mut until = Instant::now().checked_add(limit);
    loop {
        let ended = match until {
            Some(until) => timeout_at(until, response.as_mut()).await,
            None => Ok(response.as_mut().await),
        };
        match ended {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(mut error)) => {
                return Err(match error.take_message() {
                    Some(request) => NotAnswered::Unsent(Box::new(request)),
                    None => NotAnswered::Failed(failure(&error.into_error(), progress)),
                });
            }
            // While the body moves, the upstream is not yet asked for its response.
            Err(_) => match progress.and_then(|body| body.moved_at().checked_add(limit)) {
                Some(later) if later > Instant::now() => until = Some(later),
                _ => return Err(NotAnswered::Failed(Failure::ResponseTimedOut)),
            },
        }
    }
}

fn failure(error: &hyper::Error, progress: Option<&Arc<Progress>>) -> Failure {
    tracing::debug!(error = error as &dyn std::error::Error, "no response");
    match progress {
        Some(body) if body.is_stalled() => Failure::BodyTimedOut,
        Some(body) if body.is_aborted() => Failure::BodyAborted,
        _ if error.is_parse() => Failure::Malformed,
        _ => Failure::Lost,
    }
}

fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::default());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whether a request has the same effect once or twice, and can be sent twice.
fn is_repeatable(request: &Request<RequestBody>) -> bool {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    );
    idempotent && request.body().is_empty()
}
