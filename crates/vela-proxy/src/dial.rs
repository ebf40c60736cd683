use tokio::time::timeout;

use crate::failure::Failure;
use crate::pool::Connection;
use crate::upstream_stream::UpstreamStream;
use crate::{ProxyConfig, Upstream};

/// Opens a connection to an upstream.
pub(crate) async fn dial(upstream: &Upstream, config: &ProxyConfig) -> Result<Connection, Failure> {
    let Upstream { tag, address, .. } = upstream;
    match timeout(config.timeouts.connect, UpstreamStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(Connection::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%tag, %address, %error, "cannot connect");
            Err(Failure::Unreachable)
        }
        Err(_) => {
            tracing::debug!(%tag, %address, "connecting takes too long");
            Err(Failure::ConnectTimedOut)
        }
    }
}
