use std::net::SocketAddr;

use tokio::time::timeout;

use crate::failure::Failure;
use crate::pool::Connection;
use crate::upstream_stream::UpstreamStream;
use crate::{ProxyConfig, Upstream};

/// Opens a connection to an upstream.
pub(crate) async fn dial(upstream: &Upstream, config: &ProxyConfig) -> Result<Connection, Failure> {
    match timeout(config.timeouts.connect, connect(upstream.addr)).await {
        Ok(Ok(stream)) => Ok(Connection::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(tag = %upstream.tag, addr = %upstream.addr, %error, "cannot connect");
            Err(Failure::Unreachable)
        }
        Err(_) => {
            tracing::debug!(tag = %upstream.tag, addr = %upstream.addr, "connecting takes too long");
            Err(Failure::ConnectTimedOut)
        }
    }
}

async fn connect(addr: SocketAddr) -> std::io::Result<UpstreamStream> {
    let stream = UpstreamStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
