use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use crate::stats::Open;
use crate::tls::Tls;
use crate::worker::Worker;

/// Makes a client's connection one that can be served. A stop leaves a handshake that is under way
/// a moment, and does not wait for a client that says nothing.
pub(crate) async fn handshake(
    worker: &Worker,
    tls: &Tls,
    socket: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let _open = Open::count(&worker.counters);
    let mut accepting = std::pin::pin!(tls.accept(socket));
    let accepted = tokio::select! {
        biased;
        accepted = accepting.as_mut() => accepted,
        () = worker.stop.wait() => {
            let rest = worker.stop.until().map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now())
            });
            timeout(LAST_HANDSHAKE.min(rest / 2), accepting).await.ok()?
        }
    };
    accepted.unwrap_or_else(|error| {
        tracing::trace!(%error, "a client is not served");
        None
    })
}

/// How long a handshake may go on after a stop.
const LAST_HANDSHAKE: Duration = Duration::from_millis(500);
