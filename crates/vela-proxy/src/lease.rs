use std::sync::Arc;

use crate::generation::Generation;
use crate::in_flight::Pinned;
use crate::pool::{Connection, Pool};
use crate::request_body::Progress;

/// A connection to an upstream while it serves a request, and the pin that keeps the upstream
/// from being stopped meanwhile. Dropped before the end, it breaks the connection off.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) connection: Connection,
    pub(crate) upstream: usize,
    pub(crate) pool: Arc<Pool>,
    pub(crate) progress: Option<Arc<Progress>>,
    /// Last, so that the connection has gone when the pin goes.
    pub(crate) generation: Pinned<Generation>,
}

impl Lease {
    /// The response is complete: the connection may serve another request.
    pub(crate) fn end(self) {
        let sent = self.progress.as_ref().is_none_or(|body| body.is_done());
        // An upstream that answered early may still be sent the rest of the body.
        if sent {
            self.pool
                .put(&self.generation, self.upstream, self.connection);
        }
    }
}
