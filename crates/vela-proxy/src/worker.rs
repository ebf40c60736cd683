use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::ProxyConfig;
use crate::in_flight::InFlight;
use crate::pool::Pool;
use crate::route_table::RouteTable;
use crate::stats::Counters;

/// What one thread of the proxy works with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) counters: Arc<Counters>,
    /// Its client connections and tunnels.
    pub(crate) live: Arc<InFlight>,
    /// Until when it may finish, once it has to stop.
    pub(crate) stop: watch::Receiver<Option<Instant>>,
}

impl Worker {
    /// Waits until it has to stop.
    pub(crate) async fn stopping(&self) {
        // An error says that the `Serving` was dropped: that is a stop too.
        self.stop.clone().wait_for(Option::is_some).await.ok();
    }
}
