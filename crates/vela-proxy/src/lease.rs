use std::sync::Arc;

use crate::client::Ongoing;
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
    /// The response is complete: the connection may serve another request. An upstream that
    /// answered early may still be sent the rest of the body; until then the request goes on.
    pub(crate) fn end(mut self, ongoing: Option<Ongoing>) {
        match self.progress.take() {
            Some(body) if !body.is_done() => {
                tokio::spawn(self.outlast(body, ongoing));
            }
            _ => self
                .pool
                .put(&self.generation, self.upstream, self.connection),
        }
    }

    async fn outlast(self, body: Arc<Progress>, ongoing: Option<Ongoing>) {
        if !body.ended().await {
            self.connection.driver.abort();
        }
        drop(self);
        drop(ongoing);
    }
}
