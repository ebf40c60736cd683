use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use tokio::time::timeout;

use crate::crew::Crew;
use crate::generation::Generation;
use crate::pool::Pool;
use crate::route_table::RouteTable;
use crate::stats::Counters;
use crate::stop::Stop;
use crate::turnstile::Turnstile;
use crate::worker::Worker;
use crate::{
    DrainLimits, Drained, Listener, Maintenance, Park, ParkLimits, ProxyConfig, Replaced,
    RouteError, RouteId, RouteSpec, Router, Serving, Stats, UpstreamStatus,
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
}

/// What the proxy reaches of a worker from outside its thread.
struct WorkerParts {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
}

impl Proxy {
    /// A proxy with no routes. It does nothing until [`Proxy::serve`].
    pub fn new(config: ProxyConfig) -> Proxy {
        Proxy {
            inner: Arc::new(Inner {
                turnstile: Arc::new(Turnstile::new(config.limits.connections_per_address)),
                config: Arc::new(config),
                routes: Arc::default(),
                workers: Mutex::default(),
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
        let listeners = listeners.into_iter().map(Into::into).collect();
        let config = &self.inner.config;
        let stop = Arc::new(Stop::default());
        let (crew, parts) = Crew::of(config.workers.get());
        let crew = Arc::new(crew);
        let workers: Vec<_> = parts
            .into_iter()
            .map(|(live, inbox)| {
                let worker = Worker {
                    routes: Arc::clone(&self.inner.routes),
                    config: Arc::clone(config),
                    pool: Arc::new(Pool::new(
                        config.limits.upstream_idle,
                        config.timeouts.upstream_idle,
                    )),
                    counters: Arc::default(),
                    live,
                    crew: Arc::clone(&crew),
                    turnstile: Arc::clone(&self.inner.turnstile),
                    stop: Arc::clone(&stop),
                };
                (worker, inbox)
            })
            .collect();
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

    /// All upstreams of all routes, in the order of the routes' names. Parked routes have none.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.inner.routes.upstreams()
    }

    fn workers(&self) -> MutexGuard<'_, Vec<WorkerParts>> {
        self.inner
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        match streams {
            Some(limit) => generations.iter().for_each(|one| one.curfew().tell(limit)),
            None => self.inner.routes.pass_on(&route, &generations),
        }
        // Not an error: what is left is in the answer.
        let ended = generations
            .iter()
            .map(|one| one.in_flight().requests_ended());
        timeout(requests, join_all(ended)).await.ok();
        // Only now: until then a request may become a stream.
        let rest = streams.map_or(Duration::ZERO, |limit| limit.saturating_add(SETTLE));
        let rest = rest.saturating_sub(begun.elapsed());
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

fn replaced(id: RouteId, generation: Arc<Generation>) -> Replaced {
    Replaced::new(id, generation.upstreams.clone(), generation)
}
