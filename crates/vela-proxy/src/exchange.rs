use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use crate::ErrorPages;
use crate::admission::Admission;
use crate::buffer::Buffer;
use crate::call::{Call, Cut, Trouble, Upload, Uploaded, poll_gone};
use crate::client::Client;
use crate::client_stream::ClientStream;
use crate::curfew::Bedtime;
use crate::decision::Decision;
use crate::departure::Departure;
use crate::dial::dial;
use crate::failure::Failure;
use crate::forwarded::Provenance;
use crate::generation::Generation;
use crate::head_end::HeadEnd;
use crate::in_flight::Pinned;
use crate::page::Page;
use crate::pool::Connection;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::request_head::{self, Asked};
use crate::response_head::Answered;
use crate::route_table::Route;
use crate::tally::Stream;
use crate::tunnel::tunnel;
use crate::visit::Visit;
use crate::wire::Wire;
use crate::worker::Worker;

/// What happens to a client's connection when a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It has another request.
    Next,
    Close,
    /// It is closed when the client has had time to read its answer.
    Linger,
    /// It is closed so that the client knows that something is missing.
    Reset,
}

/// A request that has been sent, and the begin of its response.
struct Sent {
    answered: Answered,
    connection: Connection,
    upstream: usize,
    /// Keeps the upstream from being stopped meanwhile.
    generation: Visit,
    /// For the next piece of the response.
    patience: Duration,
}

/// Why no upstream responds.
enum Unanswered {
    /// No upstream was sent any of it: it may go elsewhere.
    Unsent(Failure),
    /// It may have had its effect.
    Failed(Failure),
    ClientGone,
}

/// How often a request may follow a route that changes under it.
const MAX_ROUTE_CHANGES: usize = 8;
/// How old an unused connection may be for a request that could not be repeated should the
/// upstream close it at that moment.
const FRESH: Duration = Duration::from_secs(1);

impl<C: ClientStream> Client<C> {
    /// Answers the request whose head is in the first bytes of the input: by an upstream, or by a
    /// page of the proxy's own.
    pub(crate) async fn exchange(&mut self, head: usize) -> After {
        self.begin(head);
        let mut request = Buffer::default();
        let mut decision = Decision::Unknown;
        let decided = &mut decision;
        let translated = request_head::translate(
            &self.wire.input.filled()[..head],
            &self.worker.config,
            &self.peer,
            &mut self.host,
            &mut self.provenance,
            &mut request,
            |destination| {
                let worker = &self.worker;
                let number = worker.counters.worker;
                let record = &mut self.record;
                *decided =
                    Decision::on(destination, &worker.routes, &self.entrance, record, number);
                decided
            },
        );
        self.wire.input.consume(head);
        let (asked, flow) = match translated {
            Ok(translated) => translated,
            Err(refusal) => {
                self.record.came_from(&self.provenance);
                let page = Page::of(Failure::Refused(refusal));
                let page = page.with_page_of(decision.pages());
                return self.page(page, !self.record.is_head()).await;
            }
        };
        self.record.understood(&self.provenance, &self.host);
        let mut upload = Upload {
            flow,
            state: Uploaded::NotYet,
            is_held: asked.expects_continue,
            was_lost: false,
            departure: Departure::default(),
        };
        let route = match decision {
            Decision::Pass(route) => route,
            Decision::Redirect(location) => {
                let page = Page::redirect(&location);
                return self.answer(page, true, &asked, &mut upload).await;
            }
            Decision::Maintenance(route) => {
                let maintenance = route.options.maintenance.as_ref();
                let message = maintenance.and_then(|one| one.message.as_deref());
                let page = Page::maintenance(message).with_page_of(pages(&route));
                return self.answer(page, true, &asked, &mut upload).await;
            }
            Decision::Challenge(text) => {
                let page = Page::challenge(&text);
                return self.answer(page, true, &asked, &mut upload).await;
            }
            Decision::Forbidden => {
                let page = Page::of(Failure::Unsecured);
                return self.answer(page, true, &asked, &mut upload).await;
            }
            Decision::Unknown => {
                let page = Page::of(Failure::UnknownHost);
                return self.answer(page, true, &asked, &mut upload).await;
            }
        };
        let mut admission = Admission::new(route);
        let sent = self
            .send(&asked, &mut upload, request, &mut admission)
            .await;
        match sent {
            Ok(sent) => self.respond(sent, &mut upload, &asked).await,
            Err(Unanswered::Unsent(failure) | Unanswered::Failed(failure)) => {
                let Provenance { client, id } = &self.provenance;
                tracing::debug!(%client, id = id.as_str(), %failure, "no upstream answers");
                let is_sound = !matches!(
                    failure,
                    Failure::BodyTimedOut | Failure::BodyAborted | Failure::Refused(_)
                );
                let is_cut = failure == Failure::BodyAborted && self.has_client_gone().await;
                let page = Page::of(failure).with_page_of(pages(admission.route()));
                let after = self.answer(page, is_sound, &asked, &mut upload).await;
                if is_cut {
                    self.record.client_left_unanswered();
                }
                after
            }
            Err(Unanswered::ClientGone) => {
                self.record.bytes_in = upload.flow.passed();
                self.record.client_left_unanswered();
                After::Close
            }
        }
    }

    /// Whether the client has sent all that it ever will.
    async fn has_client_gone(&mut self) -> bool {
        let mut departure = Departure::default();
        poll_fn(|cx| Poll::Ready(poll_gone(&mut self.wire, &mut departure, cx).is_ready())).await
    }

    /// Answers by a page of the proxy's own; `is_sound` says that the request is, so that another
    /// one may follow if all of this one has come.
    async fn answer(
        &mut self,
        page: Page<'_>,
        is_sound: bool,
        asked: &Asked,
        upload: &mut Upload,
    ) -> After {
        // Those of HTTP/1.0 would have to be told that it stays.
        let stays = is_sound
            && asked.keep_alive
            && asked.is_http11
            && (upload.state == Uploaded::Wholly || upload.flow.skip(&mut self.wire.input));
        self.record.bytes_in = upload.flow.passed();
        self.write_page(page, !asked.is_head, stays).await
    }

    /// Sends the request to where its route goes, and follows a route that changes meanwhile.
    async fn send(
        &mut self,
        asked: &Asked,
        upload: &mut Upload,
        mut request: Buffer,
        admission: &mut Admission,
    ) -> Result<Sent, Unanswered> {
        let mut route_changes = 0;
        loop {
            let mut generation = Visit::new(self.enter(admission, &mut request).await?);
            let (options, limits) = (&admission.route().options, &self.worker.config.timeouts);
            let patience = options.response_timeout.unwrap_or(limits.response);
            let patience_for_more = options.response_body_timeout;
            let patience_for_more = patience_for_more.unwrap_or(limits.response_body);
            let sent = self
                .try_upstreams(&mut generation, asked, upload, &mut request, patience)
                .await;
            match sent {
                Ok((answered, connection, upstream)) => {
                    return Ok(Sent {
                        answered,
                        connection,
                        upstream,
                        generation,
                        patience: patience_for_more,
                    });
                }
                // An upstream that is gone because it was replaced: its successor is there, or
                // soon will be.
                Err(Unanswered::Unsent(_))
                    if route_changes < MAX_ROUTE_CHANGES
                        && self.is_replaced_soon(admission.route()).await? =>
                {
                    route_changes += 1;
                    self.record.retried(&self.worker);
                }
                Err(unanswered) => return Err(unanswered),
            }
        }
    }

    async fn enter(
        &mut self,
        admission: &mut Admission,
        request: &mut Buffer,
    ) -> Result<Pinned<Generation>, Unanswered> {
        if let Some(entered) = admission.enter_at_once() {
            return Ok(entered);
        }
        // It may be one of thousands that are parked.
        request.shrink();
        let entering = Box::pin(admission.enter(&self.worker));
        let entered = unless_gone(&mut self.wire, entering).await?;
        entered.map_err(Unanswered::Failed)
    }

    /// Whether the route of an upstream that refuses connections changes within a moment: an
    /// instance that has just died refuses before whoever watches it can say so.
    async fn is_replaced_soon(&mut self, route: &Arc<Route>) -> Result<bool, Unanswered> {
        let worker = &self.worker;
        let changed = worker.routes.until_changed(route);
        let waiting = Box::pin(timeout(worker.config.timeouts.replacement, changed));
        let changed = unless_gone(&mut self.wire, waiting).await?;
        Ok(changed.is_ok())
    }

    /// Sends a request to one of the generation's upstreams. It goes to another connection or
    /// upstream as long as that is safe: when it was not sent, or, once, when it is idempotent, has
    /// no body or has kept it, and met a kept connection that the upstream was just closing. More
    /// than once might be to take one upstream after the other down with it (RFC 9110, 9.2.2).
    async fn try_upstreams(
        &mut self,
        generation: &mut Visit,
        asked: &Asked,
        upload: &mut Upload,
        request: &mut Buffer,
        patience: Duration,
    ) -> Result<(Answered, Connection, usize), Unanswered> {
        let worker = Arc::clone(&self.worker);
        let is_repeatable = asked.is_idempotent && upload.flow.is_done();
        let mut failure = Failure::Unreachable;
        while let Some(upstream) = generation.next() {
            loop {
                // The other kept ones are likely to be as dead.
                let kept = match upload.was_lost {
                    true => None,
                    false => kept(&worker, generation, upstream, is_repeatable),
                };
                let is_reused = kept.is_some();
                let mut connection = match kept {
                    Some(connection) => connection,
                    None => {
                        self.record.turns_to_upstream();
                        let dialling = dial(&generation.upstreams[upstream], &worker.config);
                        match unless_gone(&mut self.wire, Box::pin(dialling)).await? {
                            Ok(connection) => {
                                self.record.connected();
                                connection
                            }
                            Err(refused) => {
                                if refused.is_its_own {
                                    generation.refused(&worker.config);
                                }
                                if refused.failure == Failure::Exhausted {
                                    worker.room.fall_short(worker.crew.connections());
                                }
                                failure = refused.failure;
                                self.record.upstream_failed(&worker, failure);
                                break;
                            }
                        }
                    }
                };
                connection.output = std::mem::take(request);
                self.record.turns_to_upstream();
                let trouble = match self.ask(&mut connection, asked, upload, patience).await {
                    Ok(answered) => {
                        let tag = &generation.upstreams[upstream].tag;
                        self.record.responded(tag);
                        generation.answered();
                        return Ok((answered, connection, upstream));
                    }
                    Err(trouble) => trouble,
                };
                match trouble {
                    Trouble::Unsent => {
                        upload.state = Uploaded::NotYet;
                        *request = std::mem::take(&mut connection.output);
                        self.record.retried(&worker);
                        if !is_reused {
                            generation.lost(&worker.config);
                            failure = Failure::Lost;
                            self.record.upstream_failed(&worker, failure);
                            break;
                        }
                    }
                    Trouble::Lost
                        if is_reused
                            && (is_repeatable || (asked.is_idempotent && upload.is_held))
                            && connection.input.is_empty()
                            && connection.input.is_untouched() =>
                    {
                        upload.state = Uploaded::NotYet;
                        upload.was_lost = true;
                        *request = std::mem::take(&mut connection.output);
                        request.rewind();
                        self.record.retried(&worker);
                    }
                    trouble => {
                        let unanswered = self.unanswered(trouble);
                        if let Unanswered::Failed(failure) = unanswered
                            && failure.is_upstreams()
                        {
                            generation.lost(&worker.config);
                        }
                        return Err(unanswered);
                    }
                }
            }
        }
        Err(Unanswered::Unsent(failure))
    }

    /// Sends the request on one connection, until its response begins.
    async fn ask(
        &mut self,
        connection: &mut Connection,
        asked: &Asked,
        upload: &mut Upload,
        patience: Duration,
    ) -> Result<Answered, Trouble> {
        let mut call = Call {
            client: &mut self.wire,
            upstream: connection,
            upload,
            patience: &mut self.patience,
            asked,
            config: &self.worker.config,
            may_stay: !self.worker.stop.is_told(),
            hsts: self.entrance.hsts(&self.host),
        };
        let mut head_end = HeadEnd::default();
        let answered = poll_fn(|cx| call.poll_answer(cx, &mut head_end, patience)).await;
        self.patience.end();
        answered
    }

    fn unanswered(&self, trouble: Trouble) -> Unanswered {
        let failure = match trouble {
            Trouble::ClientGone => return Unanswered::ClientGone,
            Trouble::Unsent | Trouble::Lost => Failure::Lost,
            Trouble::Malformed => Failure::Malformed,
            Trouble::ResponseTimedOut => Failure::ResponseTimedOut,
            Trouble::BodyTimedOut => Failure::BodyTimedOut,
            Trouble::BodyAborted => Failure::BodyAborted,
            Trouble::BodyTooLarge => Failure::Refused(Refusal::BodyTooLarge),
        };
        self.record.upstream_failed(&self.worker, failure);
        Unanswered::Failed(failure)
    }

    /// Passes the response on.
    async fn respond(&mut self, sent: Sent, upload: &mut Upload, asked: &Asked) -> After {
        let Sent {
            answered,
            mut connection,
            upstream,
            mut generation,
            patience,
        } = sent;
        self.record.answered(answered.status);
        if answered.status == 101 {
            generation.become_stream();
            self.record.streams(&self.worker, Stream::Tunnel);
            connection.stream.notice_when_gone();
            let linger = self.worker.config.timeouts.tunnel_linger;
            let curfews = [generation.curfew(), self.worker.stop.curfew()];
            let Record {
                bytes_in,
                bytes_out,
                ..
            } = &mut self.record;
            let carried = (bytes_in, bytes_out);
            let tunnel = tunnel(&mut self.wire, &mut connection, linger, curfews, carried);
            Box::pin(tunnel).await;
            // The connection has gone before the pin goes.
            drop(connection);
            drop(generation);
            return After::Close;
        }
        let mut bedtime = None;
        if answered.is_event_stream {
            generation.become_stream();
            self.record.streams(&self.worker, Stream::Events);
            connection.stream.notice_when_gone();
            let curfews = [generation.curfew(), self.worker.stop.curfew()];
            bedtime = Some(Bedtime::new(curfews));
        }
        let patience = (!answered.is_event_stream).then_some(patience);
        let is_early = upload.state != Uploaded::Wholly;
        let mut download = answered.flow;
        let mut call = Call {
            client: &mut self.wire,
            upstream: &mut connection,
            upload,
            patience: &mut self.patience,
            asked,
            config: &self.worker.config,
            may_stay: true,
            hsts: None,
        };
        let ended =
            poll_fn(
                |cx| match (call.poll_rest(cx, &mut download, patience), &mut bedtime) {
                    (Poll::Pending, Some(bedtime)) => bedtime.poll(cx).map(|_| Err(Cut::AtCurfew)),
                    (rest, _) => rest,
                },
            )
            .await;
        self.patience.end();
        drop(bedtime);
        self.record.bytes_in = upload.flow.passed();
        self.record.bytes_out = download.passed();
        match ended {
            Ok(()) => {}
            Err(Cut::ByUpstream) => self.record.cut_short(&self.worker),
            Err(Cut::BySilence) => self.record.fell_silent(&self.worker),
            Err(Cut::AtCurfew) => self.record.ended_by_proxy(),
            Err(Cut::ByClient) => self.record.client_left(),
        }
        if ended.is_ok() && answered.upstream_stays && !is_early && connection.input.is_empty() {
            self.worker.pool.put(&generation, upstream, connection);
        } else {
            drop(connection);
        }
        drop(generation);
        // What is missing is told by the end of the connection, or by nothing.
        let is_missed =
            download.ends_by_closing() && !(download.is_done() && self.wire.output.is_empty());
        match ended {
            Ok(()) if upload.state != Uploaded::Wholly => After::Linger,
            Ok(()) if answered.client_stays => After::Next,
            Ok(()) => After::Close,
            Err(Cut::ByUpstream | Cut::BySilence | Cut::ByClient) if is_missed => After::Reset,
            Err(Cut::ByUpstream | Cut::BySilence | Cut::AtCurfew) => After::Close,
            Err(Cut::ByClient) => After::Linger,
        }
    }
}

/// What the route answers with where the proxy answers by itself.
fn pages(route: &Route) -> Option<&ErrorPages> {
    route.options.error_pages.as_deref()
}

/// An open connection that served a request before.
fn kept(
    worker: &Worker,
    generation: &Generation,
    upstream: usize,
    is_repeatable: bool,
) -> Option<Connection> {
    let max_age = if is_repeatable { Duration::MAX } else { FRESH };
    loop {
        let connection = worker.pool.take(generation, upstream, max_age)?;
        if is_repeatable || !connection.stream.is_spent() {
            return Some(connection);
        }
    }
}

/// What comes of `what`, unless the client goes first.
async fn unless_gone<C, T>(
    client: &mut Wire<C>,
    mut what: Pin<Box<impl Future<Output = T> + Send + ?Sized>>,
) -> Result<T, Unanswered>
where
    C: ClientStream,
{
    let mut departure = Departure::default();
    poll_fn(|cx| match what.as_mut().poll(cx) {
        Poll::Ready(come) => Poll::Ready(Ok(come)),
        Poll::Pending => {
            poll_gone(client, &mut departure, cx).map(|()| Err(Unanswered::ClientGone))
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{RouteSpec, Timeouts, Upstream};

    /// Half of it has gone out when its upstream dies, which happens only where a client is slow.
    #[tokio::test]
    async fn an_interim_response_that_was_begun_comes_to_its_end() {
        const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut client, worker) = client_of(&listener, HINTS.len() / 2).await;
        let asked = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        let (written, accepted) = tokio::join!(client.write_all(asked), listener.accept());
        written.unwrap();
        let (mut upstream, _) = accepted.unwrap();
        assert!(upstream.read(&mut [0; 4096]).await.unwrap() > 0);
        upstream.write_all(HINTS.as_bytes()).await.unwrap();
        drop(upstream);
        while worker.counters.upstream_errors.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        let page = got.strip_prefix(HINTS).expect("what was begun");
        assert!(page.starts_with("HTTP/1.1 502 "), "{page}");
    }

    /// The client of a proxy with that upstream, with room for so many bytes between.
    async fn client_of(listener: &TcpListener, room: usize) -> (DuplexStream, Arc<Worker>) {
        let worker = Arc::new(Worker::idle(Timeouts::default()));
        let upstream = Upstream::new(listener.local_addr().unwrap());
        let spec = RouteSpec::new("app", vec!["a.test".parse().unwrap()], vec![upstream]);
        assert!(worker.routes.apply(spec).unwrap().is_none());
        let (outside, inside) = duplex(room);
        let live = Pinned::new(&worker.live);
        let peer: std::net::SocketAddr = ([192, 0, 2, 1], 1).into();
        let ticket = worker.turnstile.enter(peer.ip()).unwrap();
        let client = Client::new(&worker, &Arc::default(), peer, live, inside);
        tokio::spawn(client.serve(ticket));
        (outside, worker)
    }
}
