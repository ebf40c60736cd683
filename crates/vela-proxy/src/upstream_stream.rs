use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use crate::{Address, Upstream};

/// What a connection to an upstream is made of.
#[derive(Debug)]
pub(crate) enum UpstreamStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "fuzzing")]
    Memory(tokio::io::DuplexStream),
}

impl UpstreamStream {
    /// It may take for ever.
    pub(crate) async fn connect(upstream: &Upstream) -> io::Result<UpstreamStream> {
        #[cfg(feature = "fuzzing")]
        if let Some(stream) = crate::fuzzing::dialled() {
            return Ok(UpstreamStream::Memory(stream));
        }
        match &upstream.address {
            Address::Tcp(addr) => {
                let stream = TcpStream::connect(addr).await?;
                stream.set_nodelay(true)?;
                Ok(UpstreamStream::Tcp(stream))
            }
            Address::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    // Where TCP would wait, the kernel says that the peer's queue is full.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        sleep(Duration::from_millis(fastrand::u64(2..=10))).await;
                    }
                    connected => {
                        let stream = connected?;
                        if let Some(owner) = upstream.owner {
                            expect_owner(&stream, owner)?;
                        }
                        return Ok(UpstreamStream::Unix(stream));
                    }
                }
            },
        }
    }

    /// Has the kernel see to it that a peer that vanished is noticed in the end, while nothing is
    /// sent either way. For streams, whose silence has no limit: what else is sent would have to
    /// pay for system calls that it does not need.
    pub(crate) fn notice_when_gone(&self) {
        let UpstreamStream::Tcp(stream) = self else {
            return;
        };
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15));
        if let Err(error) = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive) {
            tracing::debug!(%error, "an upstream that vanishes will not be noticed");
        }
    }

    /// Whether the peer has closed it, or sent what nobody asked for: by the kernel, which knows
    /// before the runtime does.
    pub(crate) fn is_spent(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = match self {
            UpstreamStream::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            UpstreamStream::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            #[cfg(feature = "fuzzing")]
            UpstreamStream::Memory(_) => return false,
        };
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn expect_owner(stream: &UnixStream, owner: u32) -> io::Result<()> {
    let found = stream.peer_cred()?.uid();
    if found == owner {
        return Ok(());
    }
    let message = format!("the user {found} listens there, and not {owner}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Tcp(stream) => Pin::new(stream).poll_read(cx, space),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_read(cx, space),
            #[cfg(feature = "fuzzing")]
            UpstreamStream::Memory(stream) => Pin::new(stream).poll_read(cx, space),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            UpstreamStream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "fuzzing")]
            UpstreamStream::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            UpstreamStream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            #[cfg(feature = "fuzzing")]
            UpstreamStream::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "fuzzing")]
            UpstreamStream::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            UpstreamStream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            UpstreamStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "fuzzing")]
            UpstreamStream::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
