use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::client_io::{ClientIo, Turn};
use crate::exchange::answer;
use crate::in_flight::{InFlight, Pinned};
use crate::stats::count;
use crate::worker::Worker;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Arc<Worker>,
    /// Its address, as upstreams are told.
    pub(crate) address: HeaderValue,
    turn: Arc<Turn>,
    /// Keeps the worker from ending before the connection, and the tunnel that it may become.
    _live: Pinned<InFlight>,
}

impl Client {
    pub(crate) fn new(
        worker: &Arc<Worker>,
        peer: SocketAddr,
        live: Pinned<InFlight>,
    ) -> Arc<Client> {
        count(&worker.counters.connections);
        let address = peer.ip().to_canonical().to_string();
        Arc::new(Client {
            worker: Arc::clone(worker),
            address: HeaderValue::try_from(address).unwrap_or(UNKNOWN),
            turn: Arc::new(Turn::new()),
            _live: live,
        })
    }

    /// Serves the connection until it ends, becomes a tunnel, or the worker stops.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpStream) {
        let worker = Arc::clone(&self.worker);
        let timeouts = &worker.config.timeouts;
        let io = ClientIo::new(socket, Arc::clone(&self.turn), timeouts);
        let service = service_fn(move |request| answer(Ongoing::begin(&self), request));
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
            () = worker.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
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
    fn begin(client: &Arc<Client>) -> Ongoing {
        let counters = &client.worker.counters;
        count(&counters.requests);
        count(&counters.in_flight);
        client.turn.pass();
        Ongoing {
            client: Arc::clone(client),
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let in_flight = &self.client.worker.counters.in_flight;
        in_flight.fetch_sub(1, Ordering::Relaxed);
        self.client.turn.pass();
    }
}

const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");
