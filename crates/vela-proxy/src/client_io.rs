use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::Timeouts;
use crate::patience::Patience;

/// Which request of a connection is being served: odd from a request's head to its response's
/// end, even in between. Shared by the connection's socket and its requests.
#[derive(Debug)]
pub(crate) struct Turn {
    number: AtomicU64,
    begun: Instant,
    passed_after_ms: AtomicU64,
}

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn {
            number: AtomicU64::new(0),
            begun: Instant::now(),
            passed_after_ms: AtomicU64::new(0),
        }
    }

    /// A head is complete, or a response is: the other's turn.
    pub(crate) fn pass(&self) {
        let after = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.passed_after_ms.store(after, Ordering::Relaxed);
        self.number.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    fn passed_at(&self) -> Instant {
        self.begun + Duration::from_millis(self.passed_after_ms.load(Ordering::Relaxed))
    }
}

/// A client's socket that loses patience: with a silent connection, with a head that comes too
/// slowly, and with a response that is not taken. hyper's own timer cannot tell the first two
/// apart and knows nothing of the third.
#[derive(Debug)]
pub(crate) struct ClientIo<S> {
    socket: S,
    turn: Arc<Turn>,
    seen: u64,
    head_begun: bool,
    reading: Patience,
    writing: Patience,
    limits: Limits,
}

#[derive(Debug)]
struct Limits {
    header_read: Duration,
    keep_alive: Duration,
    write: Duration,
}

impl<S> ClientIo<S> {
    pub(crate) fn new(socket: S, turn: Arc<Turn>, timeouts: &Timeouts) -> ClientIo<S> {
        let mut reading = Patience::default();
        reading.begin(timeouts.header_read);
        ClientIo {
            socket,
            seen: turn.now(),
            turn,
            head_begun: false,
            reading,
            writing: Patience::default(),
            limits: Limits {
                header_read: timeouts.header_read,
                keep_alive: timeouts.keep_alive,
                write: timeouts.write,
            },
        }
    }

    /// Forgets the last request's waiting when another one is being served or awaited.
    fn catch_up(&mut self) -> bool {
        let now = self.turn.now();
        if self.seen != now {
            self.seen = now;
            self.head_begun = false;
            self.reading.end();
        }
        now.is_multiple_of(2)
    }

    /// hyper, once told that nothing is there to read, may not ask again when the response has
    /// ended. So the timer runs from now on, and sees then how long to wait.
    fn wait_behind_request(&mut self, cx: &mut Context<'_>) {
        self.reading.begin(self.limits.keep_alive);
        while self.reading.poll_over(cx).is_ready() {
            self.reading.restart(self.limits.keep_alive);
        }
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.writing.end();
            return written;
        }
        self.writing.begin(self.limits.write);
        ready!(self.writing.poll_over(cx));
        Poll::Ready(Err(timed_out("the client does not take its response")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let awaits_head = this.catch_up();
        let before = buf.filled().len();
        match Pin::new(&mut this.socket).poll_read(cx, buf) {
            read if !awaits_head => {
                if read.is_pending() {
                    this.wait_behind_request(cx);
                }
                read
            }
            Poll::Ready(Ok(())) if buf.filled().len() > before && !this.head_begun => {
                this.head_begun = true;
                this.reading.restart(this.limits.header_read);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => {
                if !this.head_begun && this.seen > 0 {
                    this.reading
                        .set(this.turn.passed_at(), this.limits.keep_alive);
                }
                ready!(this.reading.poll_over(cx));
                if this.head_begun {
                    // Nothing else is being written while a head is awaited. That it may not fit
                    // into the socket's buffer is no reason to wait: the connection ends.
                    drop(Pin::new(&mut this.socket).poll_write(cx, REQUEST_TIMEOUT));
                }
                Poll::Ready(Err(timed_out("no request came in time")))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn client() -> (DuplexStream, ClientIo<DuplexStream>, Arc<Turn>) {
        let (outside, inside) = tokio::io::duplex(1024);
        let turn = Arc::new(Turn::new());
        let timeouts = Timeouts {
            header_read: Duration::from_secs(10),
            keep_alive: Duration::from_secs(70),
            write: Duration::from_secs(60),
            ..Timeouts::default()
        };
        let io = ClientIo::new(inside, Arc::clone(&turn), &timeouts);
        (outside, io, turn)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_without_an_answer() {
        let (mut outside, mut io, _) = client();
        let begun = Instant::now();
        let error = io.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        drop(io);
        assert_eq!(outside.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_gets_408() {
        let (mut outside, mut io, _) = client();
        let trickle = async {
            for _ in 0..4 {
                outside.write_all(b"x").await.unwrap();
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        };
        let read = async {
            let begun = Instant::now();
            while io.read_u8().await.is_ok() {}
            drop(io);
            begun.elapsed()
        };
        let (_, took) = tokio::join!(trickle, read);
        assert_eq!(took, Duration::from_secs(10));
        let mut answer = String::new();
        outside.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_limit() {
        let (mut outside, mut io, turn) = client();
        outside.write_all(b"x").await.unwrap();
        io.read_u8().await.unwrap();
        turn.pass();
        // A request that is being served may take as long as it likes.
        let busy = tokio::time::timeout(Duration::from_secs(1000), io.read_u8());
        assert!(busy.await.is_err());
        turn.pass();
        let begun = Instant::now();
        assert!(io.read_u8().await.is_err());
        assert_eq!(begun.elapsed(), Duration::from_secs(70));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_nobody_takes_is_given_up() {
        let (_outside, mut io, _) = client();
        let begun = Instant::now();
        let error = io.write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
    }
}
