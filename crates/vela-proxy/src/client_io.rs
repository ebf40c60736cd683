use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::Timeouts;
use crate::patience::Patience;
use crate::turn::Turn;

/// A client's socket that loses patience: with a silent connection, with a head that comes too
/// slowly, and with a response that is not taken. hyper's own timer cannot tell the first two
/// apart and knows nothing of the third.
///
/// It also closes in a way that lets the last answer arrive. To close while the client still sends
/// is to reset the connection, and a reset overtakes what the client has not read yet.
#[derive(Debug)]
pub(crate) struct ClientIo<S> {
    socket: S,
    turn: Arc<Turn>,
    seen: u64,
    head_begun: bool,
    reading: Patience,
    writing: Patience,
    /// When a write last went on that had to wait for the client.
    wrote_at: Instant,
    /// Once closed: how many bytes may still come to nobody.
    unwanted: Option<usize>,
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
            seen: turn.number(),
            turn,
            head_begun: false,
            reading,
            writing: Patience::default(),
            wrote_at: Instant::now(),
            unwanted: None,
            limits: Limits {
                header_read: timeouts.header_read,
                keep_alive: timeouts.keep_alive,
                write: timeouts.write,
            },
        }
    }

    /// Forgets the last request's waiting when another one is being served or awaited. Whether
    /// one is awaited.
    fn catch_up(&mut self) -> bool {
        let now = self.turn.number();
        if self.seen != now {
            self.seen = now;
            self.head_begun = false;
            self.reading.end();
        }
        !self.turn.is_ongoing()
    }

    /// hyper, once told that nothing is there to read, may not ask again when the response has
    /// ended or has been taken. So the timer runs from now on, and sees then how long to wait.
    fn wait_behind_response(&mut self, cx: &mut Context<'_>) {
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
            if self.writing.is_waiting() {
                self.writing.end();
                self.wrote_at = Instant::now();
                if self.head_begun {
                    self.reading.restart(self.limits.header_read);
                }
            }
            return written;
        }
        self.writing.begin(self.limits.write);
        ready!(self.writing.poll_over(cx));
        Poll::Ready(Err(timed_out("the client does not take its response")))
    }
}

impl<S: AsyncRead + Unpin> ClientIo<S> {
    /// Discards what the client sends, for a while.
    fn poll_discard(&mut self, cx: &mut Context<'_>, mut unwanted: usize) -> Poll<()> {
        let mut buffer = [MaybeUninit::uninit(); 8 * 1024];
        while unwanted > 0 && self.reading.poll_over(cx).is_pending() {
            let mut buffer = ReadBuf::uninit(&mut buffer);
            let read = Pin::new(&mut self.socket).poll_read(cx, &mut buffer);
            match (read, buffer.filled().len()) {
                (Poll::Pending, _) => {
                    self.unwanted = Some(unwanted);
                    return Poll::Pending;
                }
                (Poll::Ready(Err(_)), _) | (_, 0) => break,
                (_, read) => unwanted = unwanted.saturating_sub(read),
            }
        }
        Poll::Ready(())
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
                    this.wait_behind_response(cx);
                }
                read
            }
            Poll::Ready(Ok(()))
                if buf.filled().len() > before
                    && !this.head_begun
                    && !this.turn.is_body_unread() =>
            {
                this.head_begun = true;
                this.reading.restart(this.limits.header_read);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(read) => Poll::Ready(read),
            // The last response is still being taken.
            Poll::Pending if this.writing.is_waiting() => {
                this.wait_behind_response(cx);
                Poll::Pending
            }
            Poll::Pending => {
                if !this.head_begun && this.seen > 0 {
                    let since = this.turn.ended_at().max(this.wrote_at);
                    this.reading.set(since, this.limits.keep_alive);
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

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
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
        let this = &mut *self;
        let unwanted = match this.unwanted {
            Some(unwanted) => unwanted,
            None => {
                ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
                this.catch_up();
                if !(this.head_begun || this.turn.is_body_unread()) {
                    return Poll::Ready(Ok(()));
                }
                this.reading.restart(LINGER);
                LINGER_BYTES
            }
        };
        this.poll_discard(cx, unwanted).map(Ok)
    }
}

/// How long, and for how many bytes, a client that has its answer may go on sending.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Response;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn client() -> (DuplexStream, ClientIo<DuplexStream>, Arc<Turn>) {
        client_with(Duration::from_secs(70))
    }

    fn client_with(keep_alive: Duration) -> (DuplexStream, ClientIo<DuplexStream>, Arc<Turn>) {
        let (outside, inside) = tokio::io::duplex(1024);
        let turn = Arc::new(Turn::new());
        let timeouts = Timeouts {
            header_read: Duration::from_secs(10),
            keep_alive,
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
        turn.begin(false);
        // A request that is being served may take as long as it likes.
        let busy = tokio::time::timeout(Duration::from_secs(1000), io.read_u8());
        assert!(busy.await.is_err());
        turn.end();
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

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_taken_slowly_arrives_whole_and_is_idle_only_then() {
        let keep_alive = Duration::from_secs(30);
        let (mut outside, io, turn) = client_with(keep_alive);
        let service = service_fn(move |_| {
            // Complete for the proxy long before it is for the client.
            turn.begin(false);
            turn.end();
            let body = Full::new(Bytes::from(vec![b'x'; 8 * 1024]));
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let serving = http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(io), service);
        let serving = tokio::spawn(serving);
        outside
            .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
            .await
            .unwrap();
        let mut got = Vec::new();
        while got.iter().filter(|&&byte| byte == b'x').count() < 8 * 1024 {
            if got.len() < 6 * 1024 {
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
            let mut part = [0; 1024];
            let read = outside.read(&mut part).await.unwrap();
            assert!(read > 0, "ended after {} bytes", got.len());
            got.extend_from_slice(&part[..read]);
        }
        let begun = Instant::now();
        outside.read_u8().await.unwrap_err();
        assert_eq!(begun.elapsed(), keep_alive);
        serving.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_refused_body_is_no_head() {
        let (mut outside, mut io, turn) = client();
        turn.begin(true);
        turn.end();
        outside.write_all(b"body").await.unwrap();
        let begun = Instant::now();
        while io.read_u8().await.is_ok() {}
        assert_eq!(begun.elapsed(), Duration::from_secs(70));
        drop(io);
        assert_eq!(outside.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_keep_alive_at_all_does_not_spin() {
        let (_outside, mut io, turn) = client_with(Duration::ZERO);
        turn.begin(false);
        let busy = tokio::time::timeout(Duration::from_secs(1), io.read_u8());
        assert!(busy.await.is_err());
        turn.end();
        assert!(io.read_u8().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_sends_is_not_reset_at_once() {
        for (is_unread, taken) in [(true, LINGER_BYTES), (false, 0)] {
            let (mut outside, mut io, turn) = client();
            turn.begin(true);
            if !is_unread {
                turn.body_read();
            }
            turn.end();
            let closing = async {
                let begun = Instant::now();
                io.shutdown().await.unwrap();
                drop(io);
                begun.elapsed()
            };
            let sending = async {
                let mut sent = 0;
                while outside.write_all(&[0; 1024]).await.is_ok() {
                    sent += 1024;
                }
                sent
            };
            let (took, sent) = tokio::join!(closing, sending);
            assert!(took < LINGER, "{took:?}");
            let sent_to_nobody: usize = 1024; // in the buffer, which is only that large
            assert!(
                (taken..=taken + 2 * sent_to_nobody).contains(&sent),
                "{sent} of {taken}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_is_not_waited_for() {
        let (mut outside, mut io, turn) = client();
        outside.write_all(b"G").await.unwrap();
        io.read_u8().await.unwrap();
        let begun = Instant::now();
        io.shutdown().await.unwrap();
        assert_eq!((begun.elapsed(), turn.number()), (LINGER, 0));
    }
}
