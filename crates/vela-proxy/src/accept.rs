use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::client::Client;
use crate::entrance::Entrance;
use crate::handshake::handshake;
use crate::in_flight::Pinned;
use crate::worker::Worker;

/// Accepts connections until the worker stops. No error ends it: what is short now, file
/// descriptors say, comes back when a connection ends.
pub(crate) async fn accept(worker: Arc<Worker>, listener: TcpListener, entrance: Arc<Entrance>) {
    let mut backoff = Backoff::default();
    loop {
        let accepted = tokio::select! {
            () = worker.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        let pause = match accepted {
            Ok((socket, peer)) => {
                backoff = Backoff::default();
                let Some(live) = Pinned::new(&worker.live) else {
                    return;
                };
                if let Err(error) = prepare(&socket) {
                    tracing::debug!(%error, "a client has gone at once");
                    continue;
                }
                let client = Client::new(&worker, &entrance, peer, live);
                match &entrance.tls {
                    None => tokio::spawn(client.serve(socket)),
                    Some(_) => tokio::spawn(serve_tls(client, socket)),
                };
                // Lets this connection be served, and other workers have the next one.
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                let pause = backoff.next();
                tracing::warn!(%error, ?pause, "cannot accept connections");
                pause
            }
        };
        tokio::select! {
            () = worker.stopping() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn serve_tls(client: Arc<Client>, socket: TcpStream) {
    let Some(tls) = &client.entrance.tls else {
        return;
    };
    // A box, which is gone when requests are served.
    if let Some(stream) = Box::pin(handshake(&client.worker, tls, socket)).await {
        client.serve(stream).await;
    }
}

/// Small writes go out at once, and a peer that vanished is noticed in the end.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

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
    fn running_out_of_descriptors_is_not_about_one_connection() {
        assert!(!is_about_one_connection(&io::Error::from_raw_os_error(24)));
        assert!(is_about_one_connection(&io::Error::from_raw_os_error(103)));
    }
}
