use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What a client's connection is made of.
pub(crate) trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// From now on, closing it tells the client that something is missing.
    fn reset_when_closed(&self);
}

impl ClientStream for TcpStream {
    fn reset_when_closed(&self) {
        let socket = socket2::SockRef::from(self);
        if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a client is not told that its response is cut short");
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl ClientStream for tokio::io::DuplexStream {
    fn reset_when_closed(&self) {}
}
