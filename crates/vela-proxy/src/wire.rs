use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;

/// A connection with what came over it and is unused, and what is to go over it and is unsent.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    pub(crate) input: Buffer,
    pub(crate) output: Buffer,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S) -> Wire<S> {
        Wire {
            stream,
            input: Buffer::default(),
            output: Buffer::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads once, unless as much is unused as may be: then it waits for nothing. 0 is the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(space) = self.input.space(limit) else {
            return Poll::Pending;
        };
        let mut space = ReadBuf::new(space);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut space);
        let count = space.filled().len();
        self.input.read(count);
        match read {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(count)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.input.release_if_empty();
                Poll::Pending
            }
        }
    }

    /// Whether nothing has come since the last read, not even the end.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let mut space = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut space);
        self.input.is_empty() && read.is_pending()
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Writes once: the unsent output, and behind it `more`. Gives how much of `more` has gone.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        more: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let unsent = self.output.len();
        let written = match (unsent, more.len()) {
            (0, 0) => return Poll::Ready(Ok(0)),
            (0, _) => stream.poll_write(cx, more),
            (_, 0) => stream.poll_write(cx, self.output.filled()),
            _ => {
                let both = [IoSlice::new(self.output.filled()), IoSlice::new(more)];
                stream.poll_write_vectored(cx, &both)
            }
        };
        match ready!(written)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => {
                self.output.consume(written);
                Poll::Ready(Ok(written.saturating_sub(unsent)))
            }
        }
    }

    /// Writes all of the unsent output, and what the stream itself holds back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            ready!(self.poll_send(cx, &[]))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}
