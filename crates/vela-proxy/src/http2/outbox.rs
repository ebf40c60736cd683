use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;

/// What a connection writes, until it has nothing to add. The crate `h2` flushes behind each larger
/// DATA frame, and so each response would be a record of TLS and a call of the kernel of its own;
/// here those of several streams leave together.
#[derive(Debug)]
pub(super) struct Outbox<S> {
    /// Never contended: the connection's task alone uses it.
    held: Mutex<Held<S>>,
}

#[derive(Debug)]
struct Held<S> {
    socket: S,
    waiting: Buffer,
    /// The socket may hold back some of what it has taken.
    is_unflushed: bool,
    /// There was no room for what was to be written last.
    is_blocked: bool,
    /// How many more bytes the socket has taken than it has brought.
    balance: isize,
}

/// How the connection reads and writes.
#[derive(Debug)]
pub(super) struct Slot<'a, S>(&'a Outbox<S>);

/// What waits at most: as much as a record of TLS holds. More at once does not wait.
const MOST: usize = 16 * 1024;

impl<S> Outbox<S> {
    pub(super) fn new(socket: S) -> Outbox<S> {
        Outbox {
            held: Mutex::new(Held {
                socket,
                waiting: Buffer::default(),
                is_unflushed: false,
                is_blocked: false,
                balance: 0,
            }),
        }
    }

    pub(super) fn slot(&self) -> Slot<'_, S> {
        Slot(self)
    }

    /// Whether the kernel has all that was written.
    pub(super) fn is_empty(&self) -> bool {
        let held = self.held();
        held.waiting.is_empty() && !held.is_unflushed
    }

    /// Whether the client has taken more than it has sent since this was asked last. Who waits for
    /// a response takes more; who only keeps the line busy, by PINGs say, is answered no more than
    /// it sends.
    pub(super) fn tips(&self) -> bool {
        std::mem::take(&mut self.held().balance) > 0
    }

    fn held(&self) -> MutexGuard<'_, Held<S>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Outbox<S> {
    /// Sends all that waits.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.held();
        ready!(held.poll_send(cx))?;
        if std::mem::take(&mut held.is_blocked) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Held<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // Before the next: TLS would take much that the client does not, and what was taken
            // tells whether the client is there.
            if self.is_unflushed {
                ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
                self.is_unflushed = false;
            }
            if self.waiting.is_empty() {
                self.waiting.release();
                return Poll::Ready(Ok(()));
            }
            let bytes = self.waiting.filled();
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.consume(written);
            self.has_taken(written);
        }
    }

    fn has_taken(&mut self, count: usize) {
        self.is_unflushed = true;
        self.balance = self.balance.wrapping_add(count.cast_signed());
    }

    /// Puts it by, or writes it when it is much.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = parts.iter().map(|part| part.len()).sum();
        if self.waiting.len() + count > MOST {
            let sent = self.poll_send(cx);
            self.is_blocked |= sent.is_pending();
            ready!(sent)?;
        }
        if count > MOST {
            let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
            if let Poll::Ready(Ok(count)) = written {
                self.has_taken(count);
            }
            return written;
        }
        for part in parts {
            self.waiting.append(part);
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Slot<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut held = self.0.held();
        let before = space.filled().len();
        let read = Pin::new(&mut held.socket).poll_read(cx, space);
        let count = space.filled().len() - before;
        held.balance = held.balance.wrapping_sub(count.cast_signed());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slot<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.held().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.held().poll_write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// [`Outbox::poll_send`] does.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.held();
        ready!(held.poll_send(cx))?;
        Pin::new(&mut held.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_written_leaves_together() {
        let (mut client, socket) = duplex(1 << 20);
        let outbox = Outbox::new(socket);
        let mut slot = outbox.slot();
        for text in ["a", "bc", "d"] {
            slot.write_all(text.as_bytes()).await.unwrap();
            slot.flush().await.unwrap();
        }
        let mut read = [0; 8];
        tokio::select! {
            biased;
            _ = client.read(&mut read) => panic!("it was to wait"),
            () = std::future::ready(()) => {}
        }
        poll_fn(|cx| outbox.poll_send(cx)).await.unwrap();
        assert_eq!(client.read(&mut read).await.unwrap(), 4);
        assert_eq!(&read[..4], b"abcd");
        assert!(outbox.is_empty());
        // In order, also with what does not wait.
        slot.write_all(b"e").await.unwrap();
        slot.write_all(&[b'f'; MOST + 1]).await.unwrap();
        slot.write_all(b"g").await.unwrap();
        slot.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [b"e", &[b'f'; MOST + 1][..], b"g"].concat());
    }

    #[tokio::test]
    async fn who_finds_no_room_is_told_of_it() {
        let (mut client, socket) = duplex(10);
        let outbox = Outbox::new(socket);
        let mut slot = outbox.slot();
        slot.write_all(&[0; MOST]).await.unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let cx = &mut Context::from_waker(&waker);
        assert!(Pin::new(&mut slot).poll_write(cx, b"x").is_pending());
        let mut read = vec![0; MOST];
        while outbox.poll_send(cx).is_pending() {
            client.read_exact(&mut read[..1]).await.unwrap();
            woken.0.store(false, Ordering::Relaxed);
        }
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(Pin::new(&mut slot).poll_write(cx, b"x").is_ready());
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn it_tips_for_who_takes_more_than_it_sends() {
        let (mut client, socket) = duplex(64);
        let outbox = Outbox::new(socket);
        let mut slot = outbox.slot();
        for (sent, answered, tips) in [(0, 0, false), (3, 3, false), (3, 4, true), (1, 0, false)] {
            client.write_all(&vec![0; sent]).await.unwrap();
            slot.read_exact(&mut vec![0; sent]).await.unwrap();
            slot.write_all(&vec![0; answered]).await.unwrap();
            poll_fn(|cx| outbox.poll_send(cx)).await.unwrap();
            assert_eq!(outbox.tips(), tips, "{sent} {answered}");
            // Each look is a new begin.
            assert!(!outbox.tips());
        }
    }
}
