use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::client::Client;
use crate::crew::{Arrival, Inbox};
use crate::entrance::Entrance;
use crate::handshake::handshake;
use crate::http2;
use crate::in_flight::{InFlight, Pinned};
use crate::room::until_there_is_room;
use crate::stats::count;
use crate::turnstile::Ticket;
use crate::worker::Worker;

/// Accepts connections until the worker stops. No error ends it: what is short now, file
/// descriptors say, comes back when a connection ends.
pub(crate) async fn accept(worker: Arc<Worker>, listener: TcpListener, entrance: Arc<Entrance>) {
    let mut backoff = Backoff::default();
    let mut accepted_at_once = 0u32;
    loop {
        let accepted = tokio::select! {
            () = worker.stop.wait() => return,
            accepted = listener.accept() => accepted,
        };
        let pause = match accepted {
            Ok((socket, peer)) => {
                backoff = Backoff::default();
                let Some(ticket) = worker.turnstile.enter(peer.ip()) else {
                    count(&worker.counters.over_address_limit);
                    tracing::debug!(%peer, "an address has too many connections");
                    continue;
                };
                until_there_is_room(&worker).await;
                count(&worker.counters.connections_total);
                if let Some(relief) = worker.crew.relief(&worker.live) {
                    match socket.into_std() {
                        Ok(socket) => relief.take(socket, peer, ticket, &entrance),
                        Err(error) => tracing::warn!(%error, "cannot pass a connection on"),
                    }
                } else if let Some(live) = Pinned::new(&worker.live) {
                    serve(&worker, &entrance, socket, peer, ticket, live);
                }
                // Lets them be served. Each time costs a look at all sockets.
                accepted_at_once += 1;
                if accepted_at_once.is_multiple_of(AT_ONCE) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                count(&worker.counters.accept_errors);
                worker.room.fall_short(worker.crew.connections());
                let pause = backoff.next();
                tracing::warn!(%error, ?pause, "cannot accept connections");
                pause
            }
        };
        tokio::select! {
            () = worker.stop.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Serves the connections that other workers pass on.
pub(crate) async fn welcome(worker: Arc<Worker>, mut inbox: Inbox) {
    while let Some(arrival) = inbox.recv().await {
        let Arrival {
            socket,
            peer,
            ticket,
            live,
            entrance,
        } = arrival;
        match TcpStream::from_std(socket) {
            Ok(socket) => serve(&worker, &entrance, socket, peer, ticket, live),
            Err(error) => tracing::warn!(%error, "cannot serve a connection"),
        }
    }
}

/// Serves a connection from now on, by a task of its own.
fn serve(
    worker: &Arc<Worker>,
    entrance: &Arc<Entrance>,
    socket: TcpStream,
    peer: SocketAddr,
    ticket: Ticket,
    live: Pinned<InFlight>,
) {
    if entrance.tls.is_none() {
        let client = Client::new(worker, entrance, peer, Some(live), socket);
        tokio::spawn(client.serve(ticket));
        return;
    }
    let (worker, entrance) = (Arc::clone(worker), Arc::clone(entrance));
    tokio::spawn(async move {
        let Some(tls) = &entrance.tls else { return };
        // A box, which is gone when requests are served.
        let Some(stream) = Box::pin(handshake(&worker, tls, socket)).await else {
            return;
        };
        match stream.get_ref().1.alpn_protocol() {
            Some(http2::ALPN) => {
                let serving = http2::serve(
                    Arc::clone(&worker),
                    Arc::clone(&entrance),
                    peer,
                    live,
                    stream,
                    ticket,
                );
                Box::pin(serving).await;
            }
            _ => {
                let client = Client::new(&worker, &entrance, peer, Some(live), stream);
                Box::pin(client.serve(ticket)).await;
            }
        }
    });
}

/// Says on a listener how its connections are to be, which take it over from there: small writes
/// go out at once, and a peer that vanished is noticed in the end.
pub(crate) fn prepare(listener: &std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let socket = socket2::SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    socket.set_tcp_keepalive(&keepalive)
}

/// How many connections are accepted before they are served.
const AT_ONCE: u32 = 4;

/// The errors that Linux passes on from the connection that was to be accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
    )
}

/// Pauses that grow from 5 ms to half a second.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(5) * 2u32.saturating_pow(self.failures);
        self.failures = (self.failures + 1).min(7);
        pause.min(Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 500, 500]);
    }

    #[test]
    fn connections_take_over_what_was_said_on_their_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        prepare(&listener).unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(60)
        );
        drop(client);
    }

    #[test]
    fn running_out_of_descriptors_is_not_about_one_connection() {
        assert!(!is_about_one_connection(&io::Error::from_raw_os_error(24)));
        assert!(is_about_one_connection(&io::Error::from_raw_os_error(103)));
    }
}
