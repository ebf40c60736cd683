use std::sync::Arc;

use crate::ProxyConfig;
use crate::crew::Crew;
use crate::in_flight::InFlight;
use crate::pool::Pool;
use crate::room::Room;
use crate::route_table::RouteTable;
use crate::stats::Counters;
use crate::stop::Stop;
use crate::turnstile::Turnstile;

/// What one thread of the proxy works with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) counters: Arc<Counters>,
    /// Its client connections and tunnels.
    pub(crate) live: Arc<InFlight>,
    /// It and the others.
    pub(crate) crew: Arc<Crew>,
    pub(crate) turnstile: Arc<Turnstile>,
    pub(crate) room: Arc<Room>,
    pub(crate) stop: Arc<Stop>,
}

#[cfg(test)]
impl Worker {
    /// Alone, and without a route: each request is answered 404.
    pub(crate) fn idle(timeouts: crate::Timeouts) -> Worker {
        Worker {
            routes: Arc::default(),
            config: Arc::new(ProxyConfig {
                timeouts,
                ..ProxyConfig::default()
            }),
            pool: Arc::new(Pool::new(1, std::time::Duration::ZERO)),
            counters: Arc::default(),
            live: Arc::new(InFlight::new()),
            crew: Arc::new(Crew::of(0).0),
            turnstile: Arc::new(Turnstile::new(usize::MAX, &[])),
            room: Arc::new(Room::new(1)),
            stop: Arc::default(),
        }
    }
}
