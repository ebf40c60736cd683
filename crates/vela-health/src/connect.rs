use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::{Address, ProbeError, Target};

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A fresh connection to `target`.
pub(crate) async fn connect(target: &Target) -> Result<Box<dyn Stream>, ProbeError> {
    let connected: io::Result<Box<dyn Stream>> = match &target.addr {
        Address::Tcp(addr) => tcp(*addr).await.map(|stream| Box::new(stream) as _),
        Address::Unix(path) => unix(path, target.owner)
            .await
            .map(|stream| Box::new(stream) as _),
    };
    connected.map_err(|source| ProbeError::Connect {
        addr: target.addr.clone(),
        source,
    })
}

async fn tcp(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    if is_own_echo(&stream)? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn unix(path: &Path, owner: Option<u32>) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    if let Some(owner) = owner {
        let found = stream.peer_cred()?.uid();
        if found != owner {
            let message = format!("the user {found} listens there, and not {owner}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
    }
    Ok(stream)
}

/// Whether the connection's two ends are one socket. When nobody listens on a local port of the
/// ephemeral range, the kernel may choose that very port as the source, and TCP's simultaneous
/// open then connects the socket to itself: an answer from nobody.
fn is_own_echo(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.local_addr()? == stream.peer_addr()?)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_socket_connected_to_itself_is_told_from_a_real_one() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let echo = socket.connect(own).await.unwrap();
        assert!(is_own_echo(&echo).unwrap());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let real = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        assert!(!is_own_echo(&real).unwrap());
    }
}
