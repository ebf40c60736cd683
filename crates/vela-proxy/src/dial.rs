use rustix::io::Errno;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::pool::Connection;
use crate::upstream_stream::UpstreamStream;
use crate::{ProxyConfig, Upstream};

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undialled {
    pub(crate) failure: Failure,
    /// The upstream's own doing: the proxy was not short of anything.
    pub(crate) is_its_own: bool,
}

/// Opens a connection to an upstream.
pub(crate) async fn dial(
    upstream: &Upstream,
    config: &ProxyConfig,
) -> Result<Connection, Undialled> {
    let Upstream { tag, address, .. } = upstream;
    match timeout(config.timeouts.connect, UpstreamStream::connect(upstream)).await {
        Ok(Ok(stream)) => Ok(Connection::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%tag, %address, %error, "cannot connect");
            Err(match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => Undialled {
                    failure: Failure::Exhausted,
                    is_its_own: false,
                },
                // No port is left, maybe.
                error => Undialled {
                    failure: Failure::Unreachable,
                    is_its_own: error != Some(Errno::ADDRNOTAVAIL),
                },
            })
        }
        Err(_) => {
            tracing::debug!(%tag, %address, "connecting takes too long");
            Err(Undialled {
                failure: Failure::ConnectTimedOut,
                is_its_own: true,
            })
        }
    }
}
