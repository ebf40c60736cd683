//! HTTP/2 from clients (RFC 9113), by the crate `h2`. Each stream becomes what a connection of
//! HTTP/1.1 is to the rest of the proxy: a head, a body, and what is written back.

pub(crate) mod head;
mod outbox;
mod settings;
mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use crate::client::Client;
use crate::entrance::Entrance;
use crate::in_flight::{InFlight, Pinned};
use crate::peer::Peer;
use crate::room::Place;
use crate::stats::Open;
use crate::turnstile::Ticket;
use crate::worker::Worker;
use outbox::Outbox;
use stream::Stream;

/// What speaks HTTP/2, as application protocols are negotiated.
pub(crate) const ALPN: &[u8] = b"h2";

/// Serves a client's connection until it ends.
pub(crate) async fn serve<S>(
    worker: Arc<Worker>,
    entrance: Arc<Entrance>,
    peer: SocketAddr,
    _live: Pinned<InFlight>,
    socket: S,
    _ticket: Ticket,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _open = Open::count(&worker.counters);
    let outbox = Outbox::new(socket);
    serve_streams(&worker, &entrance, peer, &outbox).await;
    linger(&mut outbox.slot()).await;
}

async fn serve_streams<S>(
    worker: &Arc<Worker>,
    entrance: &Arc<Entrance>,
    peer: SocketAddr,
    outbox: &Outbox<S>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let timeouts = &worker.config.timeouts;
    let mut handshake = settings::of(&worker.config.limits).handshake(outbox.slot());
    let handshake = poll_fn(|cx| {
        let shaken = Pin::new(&mut handshake).poll(cx);
        match outbox.poll_send(cx) {
            Poll::Ready(Err(error)) if shaken.is_pending() => Poll::Ready(Err(error)),
            _ => shaken.map_err(io::Error::other),
        }
    });
    let mut connection = match timeout(timeouts.header_read, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::trace!(%error, "a client does not speak HTTP/2"),
        Err(_) => return,
    };
    let peer = Arc::new(Peer::new(peer, entrance.scheme(), &worker.config));
    let place = poll_fn(|cx| Poll::Ready(Place::take(worker, cx.waker()))).await;
    place.waits(Instant::now());
    let streams = Arc::new(Streams {
        place: Some(place),
        ..Streams::default()
    });
    let mut ticks = ticks(timeouts.keep_alive);
    let mut idle_ticks = 0;
    let mut is_ending = false;
    let mut is_stopping = false;
    let mut is_hurried = false;
    let mut stopping = pin!(worker.stop.wait());
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(accepted) = connection.poll_accept(cx) {
                return Poll::Ready(Event::Accepted(accepted));
            }
            if let Poll::Ready(Err(error)) = outbox.poll_send(cx) {
                return Poll::Ready(Event::Failed(error));
            }
            if !is_stopping && stopping.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stop);
            }
            if !is_hurried && streams.is_to_end() {
                return Poll::Ready(Event::MakeRoom);
            }
            ticks.poll_tick(cx).map(|_| Event::Tick)
        })
        .await;
        match event {
            Event::Accepted(Some(Ok((request, respond)))) => {
                idle_ticks = 0;
                if streams.are_a_flood() {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    is_ending = true;
                } else {
                    begin(worker, entrance, &peer, &streams, request, respond);
                }
            }
            Event::Accepted(Some(Err(error))) => {
                return tracing::trace!(%error, "a connection of HTTP/2 has failed");
            }
            Event::Failed(error) => {
                return tracing::trace!(%error, "a connection of HTTP/2 has failed");
            }
            Event::Accepted(None) => return,
            Event::Stop | Event::MakeRoom => {
                is_stopping |= matches!(event, Event::Stop);
                is_hurried = true;
                is_ending = true;
                connection.graceful_shutdown();
                ticks = self::ticks(FAREWELL);
                idle_ticks = 0;
            }
            Event::Tick => {
                streams.forget_half();
                let is_taking = outbox.tips();
                // What a client has not taken yet keeps a connection from being idle as long as
                // it takes some, or when it is to stop: else nobody would ever end it.
                let is_busy = streams.open.load(Ordering::Relaxed) > 0
                    || ((connection.has_streams() || !outbox.is_empty())
                        && (is_taking || is_stopping));
                if is_busy {
                    idle_ticks = 0;
                    continue;
                }
                idle_ticks += 1;
                if idle_ticks == IDLE_TICKS && !is_ending {
                    is_ending = true;
                    connection.graceful_shutdown();
                } else if idle_ticks > IDLE_TICKS {
                    // It does not even take the word that it is to end.
                    return;
                }
            }
        }
    }
}

/// As many ticks as make a connection that is idle end in `time`.
fn ticks(time: Duration) -> Interval {
    let period = (time / IDLE_TICKS).max(SHORTEST_TICK);
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Lets the last frames arrive. To close while the client still sends, a WINDOW_UPDATE say, is to
/// reset the connection, and a reset overtakes what the client has not read yet.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) {
    let mut unwanted = [0; 1024];
    let lingering = async {
        // The client may have gone first.
        if socket.shutdown().await.is_err() {
            return;
        }
        while matches!(socket.read(&mut unwanted).await, Ok(1..)) {}
    };
    // Whoever is not gone by then is not waited for.
    timeout(FAREWELL, lingering).await.ok();
}

/// A request, and where its response goes.
type Asked = (http::Request<h2::RecvStream>, SendResponse<Bytes>);

#[expect(clippy::large_enum_variant, reason = "it is used up where it is made")]
enum Event {
    Accepted(Option<Result<Asked, h2::Error>>),
    Failed(io::Error),
    Stop,
    /// Others need its place.
    MakeRoom,
    Tick,
}

/// Serves a stream from now on, by a task of its own.
fn begin(
    worker: &Arc<Worker>,
    entrance: &Arc<Entrance>,
    peer: &Arc<Peer>,
    streams: &Arc<Streams>,
    request: http::Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let Some(head) = head::of(&parts, body.is_end_stream()) else {
        return respond.send_reset(Reason::PROTOCOL_ERROR);
    };
    let counted = Counted::of(streams);
    let stream = Stream::new(&parts, &head, body, respond);
    let mut client = Client::of(worker, entrance, Arc::clone(peer), None, stream);
    client.wire.input.append(&head.bytes);
    // In a box at once: on its way into a task it would be copied several times.
    tokio::spawn(Box::pin(async move {
        let after = client.exchange(head.bytes.len()).await;
        client.rest();
        if client.wire.stream.end(after) {
            counted.0.left.fetch_add(1, Ordering::Relaxed);
        }
    }));
}

/// What a connection's streams have in common.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    begun: AtomicUsize,
    /// Those that the client has left before their end.
    left: AtomicUsize,
    place: Option<Place>,
}

impl Streams {
    /// Whether the client asks in order to leave: each request costs the upstream, and none the
    /// client (CVE-2023-44487). Browsers leave some when a page is left, and never most of them.
    fn are_a_flood(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        left > LEFT_AT_FIRST && left > self.begun.load(Ordering::Relaxed) / 2
    }

    /// Whether it was told to make room, and has no stream.
    fn is_to_end(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_told)
    }

    /// A page that often asks for what it does not wait for is no flood, however long it is open.
    fn forget_half(&self) {
        for count in [&self.begun, &self.left] {
            count.fetch_sub(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }
}

/// Counts a stream while it is open.
struct Counted(Arc<Streams>);

impl Counted {
    fn of(streams: &Arc<Streams>) -> Counted {
        streams.open.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = &streams.place {
            place.works();
        }
        streams.begun.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(streams))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let was_open = self.0.open.fetch_sub(1, Ordering::Relaxed);
        if let (1, Some(place)) = (was_open, &self.0.place) {
            place.waits(Instant::now());
        }
    }
}

/// In how many steps the idle time of a connection is measured.
const IDLE_TICKS: u32 = 4;
/// Time flies no faster than that.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// How long a client that waits for nothing may take to say that it knows that it is to end.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many requests a client may leave in a short time before it is asked what for.
const LEFT_AT_FIRST: usize = 100;

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::Timeouts;

    /// Of a frame, without what is in it (RFC 9113, 4.1).
    const GOAWAY: u8 = 7;

    /// It has been told to go for being idle, and keeps silent.
    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_connection_that_is_ending_anyway() {
        let keep_alive = Duration::from_secs(400);
        let worker = Arc::new(Worker::idle(Timeouts {
            keep_alive,
            ..Timeouts::default()
        }));
        let (mut client, socket) = duplex(1024);
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let serving = tokio::spawn(serve(
            Arc::clone(&worker),
            Arc::default(),
            peer,
            Pinned::new(&worker.live).unwrap(),
            socket,
            worker.turnstile.enter(peer.ip()).unwrap(),
        ));
        let begun = Instant::now();
        let no_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        client.write_all(&no_settings).await.unwrap();
        let mut head = [0; 9];
        while head[3] != GOAWAY {
            client.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            client
                .read_exact(&mut vec![0; length as usize])
                .await
                .unwrap();
        }
        assert!(begun.elapsed() >= keep_alive);
        let told = Instant::now();
        worker.stop.tell(told + keep_alive);
        serving.await.unwrap();
        assert!(told.elapsed() < 3 * FAREWELL, "{:?}", told.elapsed());
    }

    /// And keeps silent.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_makes_room() {
        let worker = Arc::new(Worker::idle(Timeouts {
            keep_alive: Duration::from_secs(400),
            ..Timeouts::default()
        }));
        let (mut client, socket) = duplex(1024);
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let serving = tokio::spawn(serve(
            Arc::clone(&worker),
            Arc::default(),
            peer,
            Pinned::new(&worker.live).unwrap(),
            socket,
            worker.turnstile.enter(peer.ip()).unwrap(),
        ));
        let no_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        client.write_all(&no_settings).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        worker.room.make();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert!(got.windows(2).any(|bytes| bytes == [8, GOAWAY]), "{got:?}");
        serving.await.unwrap();
        assert!(begun.elapsed() < 3 * FAREWELL, "{:?}", begun.elapsed());
        assert_eq!(worker.counters.reclaimed.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_with_a_stream_does_not() {
        let worker = Arc::new(Worker::idle(Timeouts::default()));
        let place = Place::take(&worker, std::task::Waker::noop());
        place.waits(Instant::now());
        let streams = Arc::new(Streams {
            place: Some(place),
            ..Streams::default()
        });
        let is_to_end = async || {
            tokio::time::sleep(Duration::from_secs(2)).await;
            worker.room.make();
            streams.is_to_end()
        };
        let open = [Counted::of(&streams), Counted::of(&streams)];
        assert!(!is_to_end().await);
        let [first, second] = open;
        drop(first);
        assert!(!is_to_end().await);
        drop(second);
        assert!(is_to_end().await);
        // One that comes just before it is ended.
        let _late = Counted::of(&streams);
        assert!(!streams.is_to_end());
    }

    #[test]
    fn only_who_leaves_much_and_most_at_once_is_a_flood() {
        let streams = Streams::default();
        let ask = |begun: usize, left: usize| {
            streams.begun.fetch_add(begun, Ordering::Relaxed);
            streams.left.fetch_add(left, Ordering::Relaxed);
            streams.are_a_flood()
        };
        assert!(!ask(LEFT_AT_FIRST, LEFT_AT_FIRST));
        assert!(ask(1, 1));
        assert!(!ask(LEFT_AT_FIRST + 1, 0), "most were not left");
        // A page that leaves all it asks for, and takes its time.
        for _ in 0..100 {
            streams.forget_half();
            streams.forget_half();
            assert!(!ask(LEFT_AT_FIRST / 2, LEFT_AT_FIRST / 2));
        }
        assert!(ask(LEFT_AT_FIRST, LEFT_AT_FIRST));
    }
}
