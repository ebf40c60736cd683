use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::shortest_limit;
use crate::client_stream::ClientStream;
use crate::entrance::Entrance;
use crate::exchange::After;
use crate::failure::Failure;
use crate::forwarded::Provenance;
use crate::head_end::{Extent, HeadEnd};
use crate::in_flight::{InFlight, Pinned};
use crate::lingering::{FAREWELL, Lingering};
use crate::page::{Body, Page};
use crate::patience::{Patience, Wait};
use crate::peer::Peer;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::room::Place;
use crate::stats::{Open, count};
use crate::turnstile::Ticket;
use crate::wire::Wire;
use crate::worker::Worker;

/// A client's connection, which has one request at a time.
#[derive(Debug)]
pub(crate) struct Client<C> {
    pub(crate) worker: Arc<Worker>,
    /// Where it came in.
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) wire: Wire<C>,
    pub(crate) patience: Patience,
    /// The normalised host of the request.
    pub(crate) host: String,
    pub(crate) record: Record,
    /// Of the request.
    pub(crate) provenance: Provenance,
    head_end: HeadEnd,
    has_asked: bool,
    is_busy: bool,
    /// Keeps the worker from ending before the connection, and the tunnel that it may become. A
    /// stream has none: its connection does.
    _live: Option<Pinned<InFlight>>,
}

/// What comes while a request is awaited.
enum Next {
    /// A request's head, in so many bytes.
    Head(usize),
    Refused(Refusal),
    /// The client has waited too long with it.
    Late(Wait),
    /// The client has gone, or nothing more will be served.
    End,
    /// The worker stops or the connection is to make room, and no request has begun.
    Stop,
}

impl<C: ClientStream> Client<C> {
    pub(crate) fn new(
        worker: &Arc<Worker>,
        entrance: &Arc<Entrance>,
        peer: SocketAddr,
        live: Option<Pinned<InFlight>>,
        stream: C,
    ) -> Client<C> {
        let peer = Arc::new(Peer::new(peer, entrance.scheme(), &worker.config));
        Client::of(worker, entrance, peer, live, stream)
    }

    /// One of a peer that has others.
    pub(crate) fn of(
        worker: &Arc<Worker>,
        entrance: &Arc<Entrance>,
        peer: Arc<Peer>,
        live: Option<Pinned<InFlight>>,
        stream: C,
    ) -> Client<C> {
        Client {
            provenance: Provenance::of(&peer),
            peer,
            wire: Wire::new(stream),
            patience: Patience::new(shortest_limit(&worker.config)),
            host: String::new(),
            record: Record::default(),
            head_end: HeadEnd::default(),
            has_asked: false,
            is_busy: false,
            worker: Arc::clone(worker),
            entrance: Arc::clone(entrance),
            _live: live,
        }
    }

    /// Serves the connection until it ends, also as the tunnel that it may become.
    pub(crate) async fn serve(mut self, _ticket: Ticket) {
        let worker = Arc::clone(&self.worker);
        let _open = Open::count(&worker.counters);
        let mut stopping = Stopping::new(&worker);
        loop {
            let next = poll_fn(|cx| self.poll_next(cx, Some(&mut stopping))).await;
            let next = match next {
                Next::Stop => self.last_request().await,
                next => next,
            };
            let after = match next {
                Next::Head(length) => {
                    self.head_end = HeadEnd::default();
                    self.has_asked = true;
                    self.patience.end();
                    stopping.works();
                    let after = self.exchange(length).await;
                    self.rest();
                    after
                }
                Next::Refused(refusal) => self.refuse(Failure::Refused(refusal)).await,
                Next::Late(Wait::Head) => self.refuse(Failure::HeadTimedOut).await,
                Next::Late(_) | Next::End | Next::Stop => After::Close,
            };
            match after {
                After::Next => {}
                After::Close if self.wire.input.is_empty() => return self.close().await,
                After::Linger | After::Close => return self.linger(&mut stopping).await,
                After::Reset => return self.wire.stream.reset_when_closed(),
            }
        }
    }

    /// The request, with so long a head, counts as in flight until [`rest`](Self::rest).
    pub(crate) fn begin(&mut self, head: usize) {
        let counters = &self.worker.counters;
        count(&counters.requests);
        count(&counters.in_flight);
        self.is_busy = true;
        let head = &self.wire.input.filled()[..head];
        self.record.begin(&self.worker, head, C::VERSION);
    }

    /// Answers what is no request, or does not become one in time.
    async fn refuse(&mut self, failure: Failure) -> After {
        let head = self.wire.input.filled();
        self.record.begin_unread(&self.worker, head, C::VERSION);
        let with_body = !self.record.is_head();
        let after = self.page(Page::of(failure), with_body).await;
        self.record.end(&self.worker, &self.peer);
        after
    }

    pub(crate) fn rest(&mut self) {
        if std::mem::take(&mut self.is_busy) {
            let in_flight = &self.worker.counters.in_flight;
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        self.record.end(&self.worker, &self.peer);
        if self.wire.input.is_empty() {
            self.wire.input.release();
        }
        self.wire.output.release_if_empty();
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        mut stopping: Option<&mut Stopping<'_>>,
    ) -> Poll<Next> {
        loop {
            if let Some(next) = self.look() {
                return Poll::Ready(next);
            }
            let most = self.worker.config.limits.head_bytes;
            match self.wire.poll_fill(cx, most) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.wire.input.release();
                    return Poll::Ready(Next::End);
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        let is_idle = self.is_idle();
        if is_idle && stopping.as_mut().is_some_and(|stopping| stopping.poll(cx)) {
            return Poll::Ready(Next::Stop);
        }
        let limits = &self.worker.config.timeouts;
        let begun = match (is_idle, self.has_asked) {
            (false, _) => self.patience.begin(Wait::Head, limits.header_read),
            (true, false) => self.patience.begin(Wait::FirstByte, limits.header_read),
            (true, true) => self.patience.begin(Wait::NextRequest, limits.keep_alive),
        };
        if let (Some(begun), Some(stopping)) = (begun, stopping) {
            match is_idle {
                true => stopping.waits(begun),
                false => stopping.works(),
            }
        }
        self.patience.poll_over(cx).map(Next::Late)
    }

    /// Whether no request has begun. Half of an empty line begins none, or a client could stay
    /// without a request for as long as it sends halves.
    fn is_idle(&self) -> bool {
        let begun = self.wire.input.filled();
        begun.is_empty() || begun == HALF_A_LINE
    }

    /// Whether what has come is a head.
    fn look(&mut self) -> Option<Next> {
        let input = &mut self.wire.input;
        // Empty lines before a request do no harm (RFC 9112, 2.2).
        while self.head_end.is_at_start() && input.filled().starts_with(b"\r\n") {
            input.consume(2);
        }
        let first = *input.filled().first()?;
        if input.filled() == HALF_A_LINE {
            return None;
        }
        let limits = &self.worker.config.limits;
        let (most, longest_line) = (limits.head_bytes, limits.target_bytes + METHOD_AND_VERSION);
        let refusal = match self.head_end.find(input.filled()) {
            Extent::Whole(length) if length <= most => return Some(Next::Head(length)),
            Extent::BareLineFeed => Refusal::Malformed,
            // What is no request at all need not be waited for.
            Extent::Partial { .. } if !first.is_ascii_alphanumeric() => Refusal::Malformed,
            Extent::Partial { in_first_line } if in_first_line && input.len() > longest_line => {
                Refusal::TargetTooLong
            }
            Extent::Partial { .. } if input.len() < most => return None,
            Extent::Partial { .. } | Extent::Whole(_) => Refusal::HeadTooLarge,
        };
        Some(Next::Refused(refusal))
    }

    /// What came before the stop is still served. The runtime has not had a look at the socket,
    /// and a new connection has a moment for its first request.
    async fn last_request(&mut self) -> Next {
        tokio::task::yield_now().await;
        let rest = self.worker.stop.until().map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let chance = match self.has_asked {
            false => FIRST_REQUEST.min(rest / 2),
            true => Duration::ZERO,
        };
        let mut chance = Box::pin(tokio::time::sleep(chance));
        poll_fn(|cx| {
            let next = self.poll_next(cx, None);
            if next.is_pending() && self.is_idle() {
                return chance.as_mut().poll(cx).map(|()| Next::End);
            }
            next
        })
        .await
    }

    /// Answers by a page of the proxy's own.
    pub(crate) async fn page(&mut self, page: Page<'_>, with_body: bool) -> After {
        self.write_page(page, with_body, false).await
    }

    /// `stays` says that what follows on the connection is another request.
    pub(crate) async fn write_page(
        &mut self,
        page: Page<'_>,
        with_body: bool,
        stays: bool,
    ) -> After {
        let stays = stays && !self.worker.stop.is_told();
        let page = page.with_page_of(self.worker.config.error_pages.as_deref());
        self.record.answered(page.status());
        let body = page.write_head(!stays, &mut self.wire.output);
        let is_taken = match with_body {
            true => self.write_body(&body).await,
            false => self.flush().await,
        };
        match (is_taken, stays) {
            (false, _) => {
                self.record.client_left();
                After::Reset
            }
            (true, true) => After::Next,
            (true, false) => After::Linger,
        }
    }

    /// Whether the client has taken all. A client that takes it slowly has no more than a piece of
    /// a long page held for it.
    async fn write_body(&mut self, body: &Body) -> bool {
        for piece in body.pieces() {
            for part in piece.as_bytes().chunks(PAGE_PIECE) {
                if self.wire.output.len() + part.len() > PAGE_PIECE && !self.flush().await {
                    return false;
                }
                self.wire.output.append(part);
                self.record.bytes_out += part.len() as u64;
            }
        }
        self.flush().await
    }

    /// Whether the client has taken all.
    async fn flush(&mut self) -> bool {
        let limit = self.worker.config.timeouts.write;
        self.patience.end();
        poll_fn(|cx| {
            if let Poll::Ready(flushed) = self.wire.poll_flush(cx) {
                return Poll::Ready(flushed.is_ok());
            }
            self.patience.wait(Wait::Write, limit);
            self.patience.poll_over(cx).map(|_| false)
        })
        .await
    }

    /// Says that nothing more comes, where the protocol has a word for it: without, a client takes
    /// the end for an attack.
    async fn close(&mut self) {
        if !C::ENDS_BY_WORD {
            return;
        }
        self.patience.end();
        self.patience.wait(Wait::Linger, FAREWELL);
        poll_fn(|cx| {
            match Pin::new(&mut self.wire.stream).poll_shutdown(cx) {
                // It may have gone first.
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => self.patience.poll_over(cx).map(|_| ()),
            }
        })
        .await;
    }

    /// Closes in a way that lets the last answer arrive.
    async fn linger(&mut self, stopping: &mut Stopping<'_>) {
        self.wire.input.release();
        self.wire.output.release();
        self.patience.end();
        let mut lingering = Lingering::new(&self.worker.config.timeouts);
        poll_fn(|cx| {
            let is_stopping = stopping.poll(cx);
            lingering.poll(cx, &mut self.wire, &mut self.patience, is_stopping)
        })
        .await;
    }
}

impl<C> Drop for Client<C> {
    fn drop(&mut self) {
        self.record.break_off(&self.worker, &self.peer);
        if self.is_busy {
            let in_flight = &self.worker.counters.in_flight;
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Waits for the word to stop, or to make room for others: by a future and a place that know the
/// task from the first time on, and by a look.
struct Stopping<'a> {
    worker: &'a Arc<Worker>,
    told: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    place: Option<Place>,
}

impl<'a> Stopping<'a> {
    fn new(worker: &'a Arc<Worker>) -> Stopping<'a> {
        Stopping {
            worker,
            told: None,
            place: None,
        }
    }

    /// Whether it was told.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(place) = &self.place else {
            self.place = Some(Place::take(self.worker, cx.waker()));
            let told = self.told.insert(Box::pin(self.worker.stop.wait()));
            return told.as_mut().poll(cx).is_ready();
        };
        self.worker.stop.is_told() || place.is_told()
    }

    fn waits(&self, since: Instant) {
        if let Some(place) = &self.place {
            place.waits(since);
        }
    }

    fn works(&self) {
        if let Some(place) = &self.place {
            place.works();
        }
    }
}

const HALF_A_LINE: &[u8] = b"\r";
/// What stands beside the target in a request's first line, at most.
const METHOD_AND_VERSION: usize = 64;
/// How long a new connection has for its first request after a stop: who connects asks at once.
const FIRST_REQUEST: Duration = Duration::from_millis(200);
/// How much of a page of the proxy's own is held for a client at a time.
const PAGE_PIECE: usize = 15 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use crate::Timeouts;

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

    /// There is no route: each request is answered 404.
    fn serve(timeouts: Timeouts) -> (DuplexStream, JoinHandle<()>, Arc<Worker>) {
        let (outside, inside) = duplex(1024);
        let worker = Arc::new(Worker::idle(timeouts));
        let live = Pinned::new(&worker.live);
        let peer: SocketAddr = ([192, 0, 2, 1], 1).into();
        let ticket = worker.turnstile.enter(peer.ip()).unwrap();
        let serving =
            tokio::spawn(Client::new(&worker, &Arc::default(), peer, live, inside).serve(ticket));
        (outside, serving, worker)
    }

    fn limits() -> Timeouts {
        Timeouts {
            header_read: Duration::from_secs(10),
            keep_alive: Duration::from_secs(70),
            write: Duration::from_secs(60),
            linger: Duration::from_secs(30),
            linger_idle: Duration::from_secs(5),
            ..Timeouts::default()
        }
    }

    fn stop(worker: &Worker) {
        worker.stop.tell(Instant::now() + Duration::from_secs(20));
    }

    async fn answer(client: &mut DuplexStream) -> String {
        let mut answer = vec![0; 1024];
        let length = client.read(&mut answer).await.unwrap();
        answer.truncate(length);
        String::from_utf8(answer).unwrap()
    }

    async fn answers(mut client: DuplexStream) -> String {
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        answers
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_without_an_answer() {
        let (client, serving, _worker) = serve(limits());
        let begun = Instant::now();
        serving.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert_eq!(answers(client).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_gets_408() {
        let (mut client, serving, _worker) = serve(limits());
        let begun = Instant::now();
        for byte in &GET[..4] {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let answer = answer(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"));
        serving.await.unwrap();
        assert!(begun.elapsed() <= Duration::from_secs(12) + limits().linger_idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_limit_again_on_a_kept_connection() {
        let (mut client, _serving, _worker) = serve(limits());
        client.write_all(GET).await.unwrap();
        answer(&mut client).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        client.write_all(&GET[..9]).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 408 "));
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_waits_for_the_next_request() {
        let (mut client, serving, worker) = serve(limits());
        client.write_all(GET).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 404 "));
        let begun = Instant::now();
        serving.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(70));
        assert_eq!(answers(client).await, "");
        assert_eq!(worker.counters.connections.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_keep_alive_at_all_does_not_spin() {
        let (mut client, serving, _worker) = serve(Timeouts {
            keep_alive: Duration::ZERO,
            ..limits()
        });
        client.write_all(GET).await.unwrap();
        serving.await.unwrap();
        assert_eq!(answers(client).await.matches("HTTP/1.1 404 ").count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_nobody_takes_is_given_up() {
        let (mut client, serving, _worker) = serve(limits());
        let begun = Instant::now();
        // As many as do not fit into what is between.
        for _ in 0..20 {
            let sent = client.write_all(GET);
            if tokio::time::timeout(Duration::from_millis(1), sent)
                .await
                .is_err()
            {
                break;
            }
        }
        serving.await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(62) + limits().linger_idle);
    }

    /// One whose upload is not wanted, and which sends some of it, many times so much later.
    async fn upload(client: &mut DuplexStream, pause: Duration, times: usize) -> bool {
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 999999999\r\n\r\n")
            .await
            .unwrap();
        assert!(answer(client).await.starts_with("HTTP/1.1 404 "));
        for _ in 0..times {
            tokio::time::sleep(pause).await;
            if client.write_all(&[0; 64 * 1024]).await.is_err() {
                return false;
            }
        }
        true
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_sends_is_not_reset_for_a_while() {
        let (mut client, serving, worker) = serve(limits());
        assert!(upload(&mut client, Duration::from_millis(100), 200).await);
        // It holds a place all the time.
        assert_eq!(worker.counters.connections.load(Ordering::Relaxed), 1);
        assert_eq!(worker.counters.in_flight.load(Ordering::Relaxed), 0);
        let begun = Instant::now();
        serving.await.unwrap();
        assert_eq!(begun.elapsed(), limits().linger_idle);
        assert_eq!(worker.counters.connections.load(Ordering::Relaxed), 0);

        // One that has sent all of it closes.
        let (mut client, serving, _worker) = serve(limits());
        assert!(upload(&mut client, Duration::from_millis(100), 200).await);
        client.shutdown().await.unwrap();
        let begun = Instant::now();
        serving.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_not_listened_to_without_end() {
        let (mut client, serving, _worker) = serve(limits());
        let begun = Instant::now();
        assert!(!upload(&mut client, Duration::from_secs(4), 100).await);
        assert_eq!(begun.elapsed(), Duration::from_secs(32));
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_sends_does_not_hold_up_the_stop() {
        for is_early in [false, true] {
            let (mut client, serving, worker) = serve(limits());
            if is_early {
                stop(&worker);
            }
            assert!(upload(&mut client, Duration::from_millis(10), 30).await);
            let begun = Instant::now();
            stop(&worker);
            let sending = async {
                while client.write_all(&[0; 1024]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(10 * FAREWELL, sending)
                .await
                .expect("an end");
            serving.await.unwrap();
            assert!(begun.elapsed() <= FAREWELL + Duration::from_millis(10));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_is_not_waited_for() {
        let (mut client, serving, _worker) = serve(limits());
        let begun = Instant::now();
        client.write_all(b"\x16\x03\x01").await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 400 "));
        serving.await.unwrap();
        assert_eq!(begun.elapsed(), limits().linger_idle);
    }

    /// Empty lines are allowed before a request, and are no request.
    #[tokio::test(start_paused = true)]
    async fn empty_lines_extend_nothing() {
        for has_asked in [false, true] {
            let (mut client, serving, _worker) = serve(limits());
            let mut most = limits().header_read;
            if has_asked {
                client.write_all(GET).await.unwrap();
                answer(&mut client).await;
                most = limits().keep_alive;
            }
            let begun = Instant::now();
            let sending = async {
                for byte in b"\r\n".iter().cycle() {
                    tokio::time::sleep(Duration::from_secs(7)).await;
                    if client.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::time::timeout(4 * most, sending)
                .await
                .expect("an end");
            serving.await.unwrap();
            assert!(begun.elapsed() <= most + limits().linger_idle + Duration::from_secs(7));
        }
    }

    /// Nor does half of one hold up the stop.
    #[tokio::test(start_paused = true)]
    async fn half_an_empty_line_is_no_request_at_the_stop() {
        let (mut client, serving, worker) = serve(limits());
        client.write_all(GET).await.unwrap();
        answer(&mut client).await;
        client.write_all(b"\r").await.unwrap();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        stop(&worker);
        serving.await.unwrap();
        assert!(begun.elapsed() <= FAREWELL + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_arrived_before_the_stop_is_answered() {
        let (mut client, serving, worker) = serve(limits());
        // The connection's task does not run before both have happened.
        client.write_all(GET).await.unwrap();
        stop(&worker);
        serving.await.unwrap();
        let answers = answers(client).await;
        assert!(answers.starts_with("HTTP/1.1 404 "));
        assert!(answers.contains("connection: close\r\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn so_is_a_request_on_a_kept_connection() {
        let (mut client, serving, worker) = serve(limits());
        client.write_all(GET).await.unwrap();
        answer(&mut client).await;
        client.write_all(GET).await.unwrap();
        stop(&worker);
        serving.await.unwrap();
        assert_eq!(answers(client).await.matches("HTTP/1.1 404 ").count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_does_not_hold_up_the_stop() {
        for has_asked in [false, true] {
            let (mut client, serving, worker) = serve(limits());
            tokio::task::yield_now().await;
            if has_asked {
                client.write_all(GET).await.unwrap();
                answer(&mut client).await;
            }
            let begun = Instant::now();
            stop(&worker);
            serving.await.unwrap();
            let waited = if has_asked {
                Duration::ZERO
            } else {
                FIRST_REQUEST
            };
            assert!(begun.elapsed() >= waited);
            assert!(begun.elapsed() <= waited + Duration::from_millis(1));
            assert_eq!(answers(client).await, "");
        }
    }

    /// Its first request was there before it was first looked at.
    #[tokio::test(start_paused = true)]
    async fn nor_does_one_that_asked_at_once() {
        let (mut client, serving, worker) = serve(limits());
        client.write_all(GET).await.unwrap();
        answer(&mut client).await;
        let begun = Instant::now();
        stop(&worker);
        serving.await.unwrap();
        assert!(begun.elapsed() <= Duration::from_millis(1));
    }

    #[tokio::test]
    async fn an_idle_connection_is_small() {
        let (_client, serving, worker) = serve(limits());
        drop(serving);
        let live = Pinned::new(&worker.live);
        let (_outside, inside) = duplex(1);
        let peer = ([192, 0, 2, 1], 1).into();
        let client = Client::new(&worker, &Arc::default(), peer, live, inside);
        let ticket = worker.turnstile.enter(([192, 0, 2, 1]).into()).unwrap();
        let size = size_of_val(&client.serve(ticket));
        assert!(size < 2700, "{size}");
    }
}
