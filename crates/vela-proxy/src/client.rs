use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::client_io::ClientIo;
use crate::entrance::Entrance;
use crate::exchange::answer;
use crate::in_flight::{InFlight, Pinned};
use crate::stats::count;
use crate::turn::Turn;
use crate::worker::Worker;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Arc<Worker>,
    /// Where it came in.
    pub(crate) entrance: Arc<Entrance>,
    /// Its address, as upstreams are told.
    pub(crate) address: HeaderValue,
    pub(crate) turn: Arc<Turn>,
    /// Keeps the worker from ending before the connection, and the tunnel that it may become.
    _live: Pinned<InFlight>,
}

impl Client {
    pub(crate) fn new(
        worker: &Arc<Worker>,
        entrance: &Arc<Entrance>,
        peer: SocketAddr,
        live: Pinned<InFlight>,
    ) -> Arc<Client> {
        count(&worker.counters.connections);
        let address = peer.ip().to_canonical().to_string();
        Arc::new(Client {
            worker: Arc::clone(worker),
            entrance: Arc::clone(entrance),
            address: HeaderValue::try_from(address).unwrap_or(UNKNOWN),
            turn: Arc::new(Turn::new()),
            _live: live,
        })
    }

    /// Serves the connection until it ends, becomes a tunnel, or the worker stops.
    pub(crate) async fn serve<S>(self: Arc<Self>, socket: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let worker = Arc::clone(&self.worker);
        let turn = Arc::clone(&self.turn);
        let timeouts = &worker.config.timeouts;
        let io = ClientIo::new(socket, Arc::clone(&turn), timeouts);
        let service = service_fn(move |request| answer(Ongoing::begin(&self, &request), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None) // see ClientIo
            .max_headers(worker.config.limits.headers)
            .max_header_size(worker.config.limits.head_bytes)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            // The connection first: what it has read already is still served.
            biased;
            ended = connection.as_mut() => ended,
            () = worker.stopping() => match last_request(connection.as_mut(), &turn, &worker).await {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "connection of a client ended");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let connections = &self.worker.counters.connections;
        connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request from its head to the end of its response or tunnel.
#[derive(Debug)]
pub(crate) struct Ongoing {
    pub(crate) client: Arc<Client>,
}

impl Ongoing {
    fn begin(client: &Arc<Client>, request: &Request<Incoming>) -> Ongoing {
        let counters = &client.worker.counters;
        count(&counters.requests);
        count(&counters.in_flight);
        client.turn.begin(!request.body().is_end_stream());
        Ongoing {
            client: Arc::clone(client),
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let in_flight = &self.client.worker.counters.in_flight;
        in_flight.fetch_sub(1, Ordering::Relaxed);
        self.client.turn.end();
    }
}

/// Drives a connection on for a moment before it is told to stop. hyper closes one on which it has
/// read nothing, or nothing since the last response, even if a request lies in the socket's buffer.
/// Gives how the connection ended, if it did.
async fn last_request<C>(
    mut connection: Pin<&mut C>,
    turn: &Turn,
    worker: &Worker,
) -> Option<C::Output>
where
    C: Future,
{
    let before = turn.number();
    // The runtime has a look at the socket: what has arrived is there to be read then.
    tokio::task::yield_now().await;
    let until = *worker.stop.borrow();
    let rest = until.map_or(Duration::ZERO, |until| {
        until.saturating_duration_since(Instant::now())
    });
    let chance = match before {
        0 => FIRST_REQUEST.min(rest / 2),
        _ => Duration::ZERO,
    };
    let begun = poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if turn.number() != before => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    timeout(chance, begun).await.ok().flatten()
}

/// How long a new connection has for its first request after a stop: who connects asks at once.
const FIRST_REQUEST: Duration = Duration::from_millis(200);
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use tokio::net::TcpStream;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

    struct Stop(watch::Sender<Option<Instant>>);

    impl Stop {
        fn now(&self) {
            let until = Instant::now() + Duration::from_secs(20);
            self.0.send_replace(Some(until));
        }
    }

    fn serve() -> (std::net::TcpStream, JoinHandle<()>, Stop) {
        let (stop, stopping) = watch::channel(None);
        let worker = Arc::new(Worker {
            routes: Arc::default(),
            config: Arc::default(),
            pool: Arc::new(crate::pool::Pool::new(1, Duration::ZERO)),
            counters: Arc::default(),
            live: Arc::new(InFlight::new()),
            stop: stopping,
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let server = TcpStream::from_std(server).unwrap();
        let live = Pinned::new(&worker.live).unwrap();
        let serving = tokio::spawn(Client::new(&worker, &Arc::default(), peer, live).serve(server));
        (client, serving, Stop(stop))
    }

    /// There is no route: each request is answered 404.
    fn answers(mut client: std::net::TcpStream) -> String {
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        answers
    }

    #[tokio::test]
    async fn a_request_that_arrived_before_the_stop_is_answered() {
        let (mut client, serving, stop) = serve();
        // The connection's task does not run before both have happened.
        client.write_all(GET).unwrap();
        stop.now();
        serving.await.unwrap();
        assert!(answers(client).starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn so_is_a_request_on_a_kept_connection() {
        let (mut client, serving, stop) = serve();
        client.write_all(GET).unwrap();
        client.set_nonblocking(true).unwrap();
        while client.peek(&mut [0]).is_err() {
            tokio::task::yield_now().await;
        }
        client.set_nonblocking(false).unwrap();
        client.write_all(GET).unwrap();
        stop.now();
        serving.await.unwrap();
        assert_eq!(answers(client).matches("HTTP/1.1 404 ").count(), 2);
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_hold_up_the_stop() {
        let (client, serving, stop) = serve();
        stop.now();
        let begun = Instant::now();
        serving.await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(answers(client), "");
    }
}
