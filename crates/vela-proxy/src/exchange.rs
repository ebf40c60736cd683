use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use tokio::time::{Instant, sleep};

use crate::admission::Admission;
use crate::client::{Client, Ongoing};
use crate::entrance::Answer;
use crate::failure::Failure;
use crate::generation::Generation;
use crate::headers::{self, Sender};
use crate::host::normalise;
use crate::lease::Lease;
use crate::pages::page;
use crate::request_body::{Progress, RequestBody};
use crate::request_check::{Refusal, host_of};
use crate::response_body::ResponseBody;
use crate::stats::count;
use crate::tunnel::Tunnel;
use crate::upstream_call::{self, Answered, Unanswered};
use crate::worker::Worker;

/// Answers one request: by an upstream, or by a page of the proxy's own.
pub(crate) async fn answer(
    ongoing: Ongoing,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    Ok(match exchange(&ongoing.client, request).await {
        Ok(Reply::Response(response)) => response.map(|body| body.with(ongoing)),
        Ok(Reply::Tunnel(response, tunnel)) => {
            // What comes now is the tunnel's, also after its other side has closed.
            ongoing.client.turn.body_read();
            tokio::spawn(tunnel.run(ongoing));
            response
        }
        Err(failure) => page(&failure).map(|body| body.with(ongoing)),
    })
}

/// What an upstream replied.
enum Reply {
    Response(Response<ResponseBody>),
    /// The client is told to switch protocols, and then tunnelled.
    Tunnel(Response<ResponseBody>, Tunnel),
}

/// How often to look whether a route has changed, while a request waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How often a request may follow a route that changes under it.
const MAX_ROUTE_CHANGES: usize = 8;

async fn exchange(client: &Arc<Client>, request: Request<Incoming>) -> Result<Reply, Failure> {
    let worker = &client.worker;
    let written_host = host_of(&request).map_err(Failure::Refused)?;
    let host = written_host.to_str().ok().and_then(normalise);
    let host = host.ok_or(Failure::Refused(Refusal::InvalidHost))?;

    let has_route = || worker.routes.find(&host).is_some();
    let target = request.uri().path_and_query();
    let target = target.map_or("", |target| target.as_str());
    if let Some(answer) = client.entrance.answer(&host, target, has_route) {
        return Ok(Reply::Response(own(answer)));
    }
    let mut admission = Admission::default();
    let mut generation = admission.enter(worker, &host).await?;
    let (mut outgoing, upgrade, progress) = outgoing(client, request, written_host.clone());
    let mut route_changes = 0;
    loop {
        match upstream_call::call(worker, &generation, outgoing, progress.as_ref()).await {
            Ok(Answered {
                response,
                connection,
                upstream,
            }) => {
                if let Some(body) = &progress {
                    body.answered();
                }
                let lease = Lease {
                    connection,
                    upstream,
                    pool: Arc::clone(&worker.pool),
                    progress,
                    generation,
                };
                let mut reply = reply(response, upgrade, lease, client)?;
                if let Reply::Response(response) = &mut reply {
                    add_hsts(client.entrance.hsts(&host), response.headers_mut());
                }
                return Ok(reply);
            }
            Err(Unanswered::Unsent(request, failure)) => {
                // An upstream that is gone because it was replaced: its successor is there, or soon will be.
                if route_changes == MAX_ROUTE_CHANGES
                    || !replaced_soon(worker, &host, &generation).await
                {
                    return Err(failure);
                }
                route_changes += 1;
                count(&worker.counters.retries);
                drop(generation);
                generation = admission.enter(worker, &host).await?;
                outgoing = *request;
            }
            Err(Unanswered::Failed(failure)) => return Err(failure),
        }
    }
}

/// What is answered before routing.
fn own(answer: Answer) -> Response<ResponseBody> {
    match answer {
        Answer::Challenge(text) => Response::new(ResponseBody::page(text)),
        Answer::Redirect(location) => {
            let mut response = Response::new(ResponseBody::page(""));
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            // Made of a host and a target that are sound.
            if let Ok(location) = HeaderValue::try_from(location) {
                response.headers_mut().insert(LOCATION, location);
            }
            response
        }
    }
}

/// The app's own such header goes before it.
fn add_hsts(hsts: Option<&str>, headers: &mut HeaderMap) {
    if let Some(value) = hsts.and_then(|value| HeaderValue::try_from(value).ok()) {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(value);
    }
}

/// Whether the route of an upstream that refuses connections changes within a moment: an instance that has just died
/// refuses before whoever watches it can say so.
async fn replaced_soon(worker: &Worker, host: &str, generation: &Generation) -> bool {
    let until = Instant::now() + worker.config.timeouts.replacement;
    while worker.routes.has(host, generation) {
        if Instant::now() >= until {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
    true
}

/// The request as an upstream gets it, and the client's side of an upgrade that it asks for.
fn outgoing(
    client: &Client,
    mut request: Request<Incoming>,
    host: HeaderValue,
) -> (
    Request<RequestBody>,
    Option<OnUpgrade>,
    Option<Arc<Progress>>,
) {
    let sender = Sender {
        address: &client.address,
        scheme: client.entrance.scheme(),
    };
    // HTTP/1.0 knows no upgrade.
    let may_upgrade = request.version() == Version::HTTP_11;
    let upgrade = headers::prepare_request(request.headers_mut(), host, &sender, may_upgrade)
        .map(|_| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let limit = client.worker.config.timeouts.body_read;
    let (body, progress) = RequestBody::new(body, limit, &client.turn);
    parts.uri = origin_form(parts.uri);
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = parts.uri;
    *outgoing.headers_mut() = parts.headers;
    (outgoing, upgrade, progress)
}

fn origin_form(uri: Uri) -> Uri {
    match uri.authority() {
        None => uri,
        Some(_) => uri
            .into_parts()
            .path_and_query
            .map_or_else(Uri::default, Uri::from),
    }
}

fn reply(
    response: Response<Incoming>,
    upgrade: Option<OnUpgrade>,
    mut lease: Lease,
    client: &Client,
) -> Result<Reply, Failure> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some(upgrade) => Ok(switch(response, upgrade, lease)),
            None => {
                count(&client.worker.counters.upstream_errors);
                Err(Failure::Malformed)
            }
        };
    }
    let (mut parts, body) = response.into_parts();
    if !headers::is_chunked_at_most(&parts.headers)
        || !headers::normalise_length(&mut parts.headers)
    {
        count(&client.worker.counters.upstream_errors);
        return Err(Failure::Malformed);
    }
    headers::prepare_response(&mut parts.headers, parts.status);
    if headers::is_event_stream(&parts.headers) {
        lease.generation.become_stream();
    }
    let body = ResponseBody::upstream(body, lease);
    Ok(Reply::Response(response_of(
        parts.status,
        parts.headers,
        body,
    )))
}

fn switch(mut response: Response<Incoming>, client: OnUpgrade, mut lease: Lease) -> Reply {
    lease.generation.become_stream();
    let upstream = hyper::upgrade::on(&mut response);
    let mut headers = std::mem::take(response.headers_mut());
    headers::prepare_switch(&mut headers);
    let tunnel = Tunnel {
        client,
        upstream,
        lease,
    };
    let body = ResponseBody::page("");
    Reply::Tunnel(response_of(response.status(), headers, body), tunnel)
}

/// The version and hyper's notes about the upstream's connection are not the client's business.
fn response_of(
    status: StatusCode,
    headers: HeaderMap,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
