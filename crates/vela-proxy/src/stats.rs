use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::Snapshot;
use crate::tally::Tally;

/// What a [`Proxy`](crate::Proxy) has done, and does now. Totals count from its making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests whose head was read, those refused included.
    pub requests: u64,
    /// Requests sent to an upstream a second time, because the first time was safe to repeat.
    pub retries: u64,
    /// Requests that wait on a parked route now.
    pub parked_now: u64,
    /// Requests that have waited on a parked route.
    pub parked_total: u64,
    /// Failures of upstreams: refused or lost connections, timeouts, malformed responses. One
    /// request may meet several, and still succeed by a retry.
    pub upstream_errors: u64,
    /// Client connections open now, tunnels included.
    pub connections: u64,
    /// Requests and tunnels in flight now, the parked ones included.
    pub in_flight: u64,
}

/// One worker's share of the statistics. No other worker writes to it, so counting is uncontended.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Which worker's, for the tallies of the routes.
    pub(crate) worker: usize,
    /// Of the requests without a route.
    pub(crate) unrouted: Tally,
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) parked_now: AtomicU64,
    pub(crate) parked_total: AtomicU64,
    pub(crate) upstream_errors: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    /// Connections closed because their address had as many as it may have.
    pub(crate) over_address_limit: AtomicU64,
    /// Connections that had to wait because there were as many as may be.
    pub(crate) over_limit: AtomicU64,
    /// Connections that made room for others.
    pub(crate) reclaimed: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    /// Connections to upstreams for which the proxy had no descriptor or memory.
    pub(crate) exhausted: AtomicU64,
}

impl Counters {
    pub(crate) fn of(worker: usize) -> Counters {
        Counters {
            worker,
            ..Counters::default()
        }
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        stats.requests += self.requests.load(Ordering::Relaxed);
        stats.retries += self.retries.load(Ordering::Relaxed);
        stats.parked_now += self.parked_now.load(Ordering::Relaxed);
        stats.parked_total += self.parked_total.load(Ordering::Relaxed);
        stats.upstream_errors += self.upstream_errors.load(Ordering::Relaxed);
        stats.connections += self.connections.load(Ordering::Relaxed);
        stats.in_flight += self.in_flight.load(Ordering::Relaxed);
    }

    pub(crate) fn add_to_metrics(&self, snapshot: &mut Snapshot) {
        snapshot.connections += self.connections.load(Ordering::Relaxed);
        snapshot.connections_total += self.connections_total.load(Ordering::Relaxed);
        snapshot.over_address_limit += self.over_address_limit.load(Ordering::Relaxed);
        snapshot.over_limit += self.over_limit.load(Ordering::Relaxed);
        snapshot.reclaimed += self.reclaimed.load(Ordering::Relaxed);
        snapshot.exhausted += self.exhausted.load(Ordering::Relaxed);
        snapshot.accept_errors += self.accept_errors.load(Ordering::Relaxed);
    }
}

/// Adds one to a total.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts a client's connection while it is open.
#[derive(Debug)]
pub(crate) struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    pub(crate) fn count(counters: &'a Counters) -> Open<'a> {
        count(&counters.connections);
        Open(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
