use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::ProbeError;

/// A fresh connection to `addr`.
pub(crate) async fn connect(addr: SocketAddr) -> Result<TcpStream, ProbeError> {
    let connected = async {
        let stream = TcpStream::connect(addr).await?;
        if is_own_echo(&stream)? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    connected
        .await
        .map_err(|source| ProbeError::Connect { addr, source })
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
