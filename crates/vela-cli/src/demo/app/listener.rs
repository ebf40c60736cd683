use std::io;
use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::{AppArgs, AppError};

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What the app was told to listen on.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) async fn bind(
        args: &AppArgs,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Listener, AppError> {
        if args.unix {
            let path = variable("VELA_SOCKET").unwrap_or_default();
            let bound = UnixListener::bind(&path);
            return bound
                .map(Listener::Unix)
                .map_err(|source| AppError::ListenUnix { path, source });
        }
        let value = variable("PORT");
        let Some(port) = value.as_ref().and_then(|port| port.parse::<u16>().ok()) else {
            return Err(AppError::Port { value });
        };
        let ip = args.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let bound = TcpListener::bind((ip, port)).await;
        bound
            .map(Listener::Tcp)
            .map_err(|source| AppError::Listen { port, source })
    }

    /// Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A connection that cannot be tuned is slower, not wrong.
                drop(stream.set_nodelay(true));
                Ok(Box::new(stream))
            }
            Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}
