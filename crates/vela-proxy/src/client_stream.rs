use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a client's connection is made of.
pub(crate) trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether its end is a message, without which the client takes it for cut off.
    const ENDS_BY_WORD: bool;

    /// The version of HTTP, where heads do not name it.
    const VERSION: Option<&'static str> = None;

    /// Ready when the client has said that it leaves, where it can say so ahead of what it has sent
    /// and nobody has read.
    fn poll_left(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// From now on, closing it tells the client that something is missing.
    fn reset_when_closed(&self);
}

impl ClientStream for TcpStream {
    const ENDS_BY_WORD: bool = false;

    fn reset_when_closed(&self) {
        let socket = socket2::SockRef::from(self);
        if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a client is not told that its response is cut short");
        }
    }
}

impl ClientStream for TlsStream<TcpStream> {
    const ENDS_BY_WORD: bool = true;

    fn reset_when_closed(&self) {
        self.get_ref().0.reset_when_closed();
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl ClientStream for tokio::io::DuplexStream {
    const ENDS_BY_WORD: bool = false;

    fn reset_when_closed(&self) {}
}
