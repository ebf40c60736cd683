use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use tokio::time::timeout;

use crate::crew::Crew;
use crate::generation::Generation;
use crate::metrics::Snapshot;
use crate::pool::Pool;
use crate::room::Room;
use crate::route_table::RouteTable;
use crate::stats::Counters;
use crate::stop::Stop;
use crate::tally::Totals;
use crate::tls::{Tls, TlsSnapshot};
use crate::turnstile::Turnstile;
use crate::worker::Worker;
use crate::{
    DrainLimits, Drained, Listener, Maintenance, Metrics, Park, ParkLimits, ProxyConfig, Replaced,
    RouteError, RouteId, RouteSpec, Router, Serving, Stats, StreamDrain, UpstreamStatus,
};

/// An HTTP reverse proxy inside this process. Clones are the same proxy.
///
/// Routes may be applied, drained and removed before, while and after it serves, from any runtime.
#[derive(Clone)]
pub struct Proxy {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<ProxyConfig>,
    routes: Arc<RouteTable>,
    turnstile: Arc<Turnstile>,
    workers: Mutex<Vec<WorkerParts>>,
    /// What its listeners shake hands by.
    tls: Mutex<Vec<Tls>>,
}

/// What the proxy reaches of a worker from outside its thread.
struct WorkerParts {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
}

impl Proxy {
    /// A proxy with no routes. It does nothing until [`Proxy::serve`].
    ///
    /// Where the process may not open as many file descriptors as [`Limits::descriptors`] says, it
    /// takes fewer connections than the configuration allows.
    ///
    /// [`Limits::descriptors`]: crate::Limits::descriptors
    pub fn new(mut config: ProxyConfig) -> Proxy {
        config.limits.fit_descriptors();
        Proxy {
            inner: Arc::new(Inner {
                turnstile: Arc::new(Turnstile::new(
                    config.limits.connections_per_address,
                    &config.trusted_proxies,
                )),
                routes: Arc::new(RouteTable::new(config.workers.get())),
                config: Arc::new(config),
                workers: Mutex::default(),
                tls: Mutex::default(),
            }),
        }
    }

    /// Accepts and serves connections on listeners that are already bound, from now on. A copy of
    /// a listener that the caller keeps, for the next process say, stays bound after the shutdown.
    /// A plain [`std::net::TcpListener`] is served HTTP.
    ///
    /// May be called again, for other listeners: the routes are shared.
    ///
    /// # Errors
    /// When a thread, a runtime or a listener cannot be set up: then nothing is served.
    pub fn serve<L: Into<Listener>>(
        &self,
        listeners: impl IntoIterator<Item = L>,
    ) -> io::Result<Serving> {
        let listeners: Vec<Listener> = listeners.into_iter().map(Into::into).collect();
        let config = &self.inner.config;
        let stop = Arc::new(Stop::new(config.timeouts.stop_streams));
        let (crew, parts) = Crew::of(config.workers.get());
        let crew = Arc::new(crew);
        let room = Arc::new(Room::new(config.workers.get()));
        let workers: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(number, (live, inbox))| {
                let worker = Worker {
                    routes: Arc::clone(&self.inner.routes),
                    config: Arc::clone(config),
                    pool: Arc::new(Pool::new(
                        config.limits.upstream_idle,
                        config.timeouts.upstream_idle,
                    )),
                    counters: Arc::new(Counters::of(number)),
                    live,
                    crew: Arc::clone(&crew),
                    turnstile: Arc::clone(&self.inner.turnstile),
                    room: Arc::clone(&room),
                    stop: Arc::clone(&stop),
                };
                (worker, inbox)
            })
            .collect();
        for tls in listeners.iter().filter_map(|one| one.entrance.tls.as_ref()) {
            let mut known = lock(&self.inner.tls);
            if !known.iter().any(|other| other.is_same(tls)) {
                known.push(tls.clone());
            }
        }
        // Known before they serve, so that no connection to an upstream escapes a drain.
        self.workers()
            .extend(workers.iter().map(|(worker, _)| WorkerParts {
                pool: Arc::clone(&worker.pool),
                counters: Arc::clone(&worker.counters),
            }));
        Serving::start(listeners, stop, workers)
    }

    /// What it has done, and does now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for worker in &*self.workers() {
            worker.counters.add_to(&mut stats);
        }
        stats
    }

    /// The same and more, route by route, for a monitoring system. What a route has counted goes
    /// when it is removed; a switch changes nothing about it.
    pub fn metrics(&self) -> Metrics {
        let mut unrouted = Totals::default();
        let mut snapshot = Snapshot::default();
        for WorkerParts { counters, .. } in &*self.workers() {
            counters.unrouted.add_to(&mut unrouted);
            counters.add_to_metrics(&mut snapshot);
        }
        snapshot.apps = vec![(String::new(), unrouted)];
        snapshot.apps.extend(self.inner.routes.totals());
        snapshot.upstreams = self.inner.routes.upstreams();
        snapshot.connections_limit = self.inner.config.limits.connections;
        let log = self.inner.config.access_log.as_ref();
        snapshot.log = log.map(|log| log.totals());
        let tls = lock(&self.inner.tls);
        match tls.is_empty() {
            true => Metrics::of(snapshot),
            false => Metrics::of(snapshot).with(TlsSnapshot::of(&tls)),
        }
    }

    /// All upstreams of all routes, in the order of the routes' names. Parked routes have none.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.inner.routes.upstreams()
    }

    fn workers(&self) -> MutexGuard<'_, Vec<WorkerParts>> {
        lock(&self.inner.workers)
    }
}

#[async_trait]
impl Router for Proxy {
    async fn apply(&self, spec: RouteSpec) -> Result<Option<Replaced>, RouteError> {
        let id = spec.id.clone();
        let old = self.inner.routes.apply(spec)?;
        Ok(old.map(|old| replaced(id, old)))
    }

    async fn drain(&self, replaced: Replaced, limits: DrainLimits) -> Drained {
        let begun = Instant::now();
        let route = replaced.route().clone();
        let Some(generation) = replaced.into_state::<Arc<Generation>>() else {
            tracing::error!(%route, "asked to drain what another router has replaced");
            return Drained::new(0, Duration::ZERO);
        };
        generation.in_flight().close();
        for worker in &*self.workers() {
            worker.pool.evict(&generation);
        }
        let DrainLimits { requests, streams } = limits;
        let generations = generation.with_elders();
        let streams = match streams {
            StreamDrain::Leave => {
                self.inner.routes.pass_on(&route, &generations);
                Duration::ZERO
            }
            StreamDrain::Await(limit) => limit,
            StreamDrain::End(limit) => {
                generations.iter().for_each(|one| one.curfew().tell(limit));
                limit.saturating_add(SETTLE)
            }
        };
        // Not an error: what is left is in the answer.
        let ended = generations
            .iter()
            .map(|one| one.in_flight().requests_ended());
        timeout(requests, join_all(ended)).await.ok();
        // Only now: until then a request may become a stream.
        let rest = streams.saturating_sub(begun.elapsed());
        let ended = generations
            .iter()
            .map(|one| one.in_flight().streams_ended());
        timeout(rest, join_all(ended)).await.ok();
        let left = generations.iter().map(|one| one.in_flight().count()).sum();
        Drained::new(left, begun.elapsed())
    }

    async fn remove(&self, id: &RouteId) -> Result<Option<Replaced>, RouteError> {
        let old = self.inner.routes.remove(id);
        Ok(old.map(|old| replaced(id.clone(), old)))
    }

    async fn maintain(
        &self,
        id: &RouteId,
        maintenance: Option<Maintenance>,
    ) -> Result<(), RouteError> {
        self.inner.routes.maintain(id, maintenance);
        Ok(())
    }

    fn stats(&self) -> Option<Stats> {
        Some(self.stats())
    }

    fn metrics(&self) -> Option<Metrics> {
        Some(self.metrics())
    }
}

#[async_trait]
impl Park for Proxy {
    async fn park(
        &self,
        spec: RouteSpec,
        limits: ParkLimits,
    ) -> Result<Option<Replaced>, RouteError> {
        let id = spec.id.clone();
        let old = self.inner.routes.park(spec, limits)?;
        Ok(old.map(|old| replaced(id, old)))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

/// How long a stream that was told to end may take to be gone: the threads that serve them are busy.
const SETTLE: Duration = Duration::from_secs(1);

/// Nobody panics in the middle of a change to what it guards.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn replaced(id: RouteId, generation: Arc<Generation>) -> Replaced {
    Replaced::new(id, generation.upstreams.clone(), generation)
}
