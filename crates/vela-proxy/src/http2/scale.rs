use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much more a client has taken than it has sent, since somebody last looked. Who waits for a
/// response takes more; who only keeps the line busy, by PINGs say, is answered no more than it
/// sends.
#[derive(Debug, Default)]
pub(super) struct Scale {
    taken: AtomicIsize,
}

impl Scale {
    /// Whether the client has taken more than it has sent since this was asked last.
    pub(super) fn tips(&self) -> bool {
        self.taken.swap(0, Ordering::Relaxed) > 0
    }

    /// One task alone weighs.
    fn add(&self, count: isize) {
        let taken = self.taken.load(Ordering::Relaxed);
        self.taken
            .store(taken.wrapping_add(count), Ordering::Relaxed);
    }
}

/// A socket of which all is weighed that comes and goes.
#[derive(Debug)]
pub(super) struct Weighed<'a, S> {
    socket: &'a mut S,
    scale: &'a Scale,
}

impl<'a, S> Weighed<'a, S> {
    pub(super) fn new(socket: &'a mut S, scale: &'a Scale) -> Weighed<'a, S> {
        Weighed { socket, scale }
    }

    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.scale.add(count.cast_signed());
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Weighed<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = space.filled().len();
        let read = Pin::new(&mut *this.socket).poll_read(cx, space);
        let count = space.filled().len() - before;
        this.scale.add(-count.cast_signed());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Weighed<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut *this.socket).poll_write(cx, bytes);
        this.sent(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut *this.socket).poll_write_vectored(cx, parts);
        this.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn it_tips_for_who_takes_more_than_it_sends() {
        let (mut client, mut socket) = duplex(64);
        let scale = Scale::default();
        let mut weighed = Weighed::new(&mut socket, &scale);
        for (sent, answered, tips) in [(0, 0, false), (3, 3, false), (3, 4, true), (1, 0, false)] {
            client.write_all(&vec![0; sent]).await.unwrap();
            weighed.read_exact(&mut vec![0; sent]).await.unwrap();
            weighed.write_all(&vec![0; answered]).await.unwrap();
            assert_eq!(scale.tips(), tips, "{sent} {answered}");
            // Each look is a new begin.
            assert!(!scale.tips());
        }
    }
}
