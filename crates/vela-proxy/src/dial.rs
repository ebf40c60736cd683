use std::net::SocketAddr;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::pool::Connection;
use crate::{ProxyConfig, Upstream};

/// Opens a connection to an upstream.
pub(crate) async fn dial(upstream: &Upstream, config: &ProxyConfig) -> Result<Connection, Failure> {
    let tcp = match timeout(config.timeouts.connect, connect(upstream.addr)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => {
            tracing::debug!(tag = %upstream.tag, addr = %upstream.addr, %error, "cannot connect");
            return Err(Failure::Unreachable);
        }
        Err(_) => {
            tracing::debug!(tag = %upstream.tag, addr = %upstream.addr, "connecting takes too long");
            return Err(Failure::ConnectTimedOut);
        }
    };
    let handshake = http1::Builder::new()
        .max_headers(config.limits.headers)
        .max_header_size(config.limits.head_bytes)
        .handshake(TokioIo::new(tcp))
        .await;
    let (sender, connection) = match handshake {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(tag = %upstream.tag, %error, "cannot begin HTTP");
            return Err(Failure::Unreachable);
        }
    };
    let driver = tokio::spawn(async move {
        // Whoever uses the connection gets the error too; this one is for the unused ones.
        if let Err(error) = connection.with_upgrades().await {
            tracing::trace!(%error, "connection to an upstream ended");
        }
    });
    Ok(Connection {
        sender,
        driver: driver.abort_handle(),
    })
}

async fn connect(addr: SocketAddr) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
