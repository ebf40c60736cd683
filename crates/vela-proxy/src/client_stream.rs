use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a client's connection is made of.
pub(crate) trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether its end is a message, without which the client takes it for cut off.
    const ENDS_BY_WORD: bool;

    /// Ready when the client has said that it leaves, where it can say so ahead of what it has sent
    /// and nobody has read.
    fn poll_left(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// From now on, closing it tells the client that something is missing.
    fn reset_when_closed(&self);

    /// Whether the client has closed its side, or all of it, even if it has sent what has not been
    /// read. Where it can be known only by asking.
    fn has_left(&self) -> bool {
        false
    }
}

impl ClientStream for TcpStream {
    const ENDS_BY_WORD: bool = false;

    fn reset_when_closed(&self) {
        let socket = socket2::SockRef::from(self);
        if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a client is not told that its response is cut short");
        }
    }

    fn has_left(&self) -> bool {
        // By the kernel. Errors and hang-ups are always told.
        let mut asked = [PollFd::new(self, PollFlags::RDHUP)];
        matches!(poll(&mut asked, Some(&Timespec::default())), Ok(told) if told > 0)
    }
}

impl ClientStream for TlsStream<TcpStream> {
    const ENDS_BY_WORD: bool = true;

    fn reset_when_closed(&self) {
        self.get_ref().0.reset_when_closed();
    }

    fn has_left(&self) -> bool {
        self.get_ref().0.has_left()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl ClientStream for tokio::io::DuplexStream {
    const ENDS_BY_WORD: bool = false;

    fn reset_when_closed(&self) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_has_left_is_known_by_what_stands_behind_the_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for is_reset in [false, true] {
            let addr = listener.local_addr().unwrap();
            let mut client = TcpStream::connect(addr).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            client.write_all(b"unread").await.unwrap();
            accepted.readable().await.unwrap();
            assert!(!accepted.has_left());
            if is_reset {
                client.reset_when_closed();
                drop(client);
            } else {
                client.shutdown().await.unwrap();
            }
            while !accepted.has_left() {
                tokio::task::yield_now().await;
            }
        }
    }
}
