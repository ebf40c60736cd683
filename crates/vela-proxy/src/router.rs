use std::any::Any;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{HostPattern, Maintenance, Metrics, PathPrefix, RouteId, RouteSpec, Stats, Upstream};

/// Sends requests for hosts to upstreams, and changes that while requests are in flight.
///
/// [`Proxy`](crate::Proxy) is the implementation that this crate ships. Another one may drive a
/// proxy that runs elsewhere; `test_util::conformance` has the tests that it must pass.
#[async_trait]
pub trait Router: fmt::Debug + Send + Sync {
    /// Makes or replaces the route, for all its hosts at once: each request sees the old route or
    /// the new one, never a mixture. Requests parked on it are released to the new upstreams.
    ///
    /// Gives what was replaced, which goes on to serve its requests in flight and must be drained
    /// before its instances are stopped. `None` when there was nothing to drain: a new route, or
    /// one that was parked. Idempotent in effect; nothing has changed when it errors. The table is
    /// in memory: it is lost on a crash.
    ///
    /// # Errors
    /// [`RouteError::HostTaken`] when another route has one of the hosts, under the same path.
    async fn apply(&self, spec: RouteSpec) -> Result<Option<Replaced>, RouteError>;

    /// Waits until the requests and streams that the replaced upstreams still serve have ended,
    /// as long as `limits` allow. From the call on, none of them gets a new request.
    ///
    /// Streams are ended within their time, unless they are left alone. Requests are not cut: what
    /// is left of them ends with the instance. Cancel safe in that a dropped drain leaves the
    /// upstreams closed to new requests, and ends their streams nonetheless.
    async fn drain(&self, replaced: Replaced, limits: DrainLimits) -> Drained;

    /// Takes the route out of the table: its hosts are unknown from then on. Idempotent.
    ///
    /// # Errors
    /// What the implementation needs to reach its proxy; [`Proxy`](crate::Proxy) has none.
    async fn remove(&self, id: &RouteId) -> Result<Option<Replaced>, RouteError>;

    /// From now on the route's new requests are answered 503, but for some; `None` ends that. The
    /// route stays as it is otherwise: its upstreams, the requests that they have and those that are
    /// parked. Nothing is replaced, so there is nothing to drain.
    ///
    /// It lasts until the route is applied or parked again, by a spec with options of its own. Does
    /// nothing where there is no route. Idempotent, and atomic as [`apply`](Router::apply) is.
    ///
    /// # Errors
    /// What the implementation needs to reach its proxy; [`Proxy`](crate::Proxy) has none.
    async fn maintain(
        &self,
        id: &RouteId,
        maintenance: Option<Maintenance>,
    ) -> Result<(), RouteError>;

    /// What it has done and does now, if it knows.
    fn stats(&self) -> Option<Stats> {
        None
    }

    /// The same for a monitoring system, if it keeps metrics.
    fn metrics(&self) -> Option<Metrics> {
        None
    }
}

/// Holds a route's requests for a while, instead of refusing them.
///
/// It is apart from [`Router`] because not every proxy can do it.
#[async_trait]
pub trait Park: fmt::Debug + Send + Sync {
    /// From now on the route's requests wait, with their bodies unread, until it is applied again or
    /// removed; the upstreams of `spec` do not count. The route need not exist yet. Gives what was
    /// replaced, to be drained; `None` when nothing was or when the route was parked already.
    ///
    /// A request that has waited for [`ParkLimits::max_wait`], or comes when
    /// [`ParkLimits::max_requests`] wait, is answered 503 with `Retry-After`.
    ///
    /// # Errors
    /// [`RouteError::HostTaken`] when another route has one of the hosts, under the same path.
    async fn park(
        &self,
        spec: RouteSpec,
        limits: ParkLimits,
    ) -> Result<Option<Replaced>, RouteError>;
}

/// How long and how many requests may be parked on one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkLimits {
    /// The longest that one request waits.
    pub max_wait: Duration,
    /// The most requests that wait at one time.
    pub max_requests: usize,
}

impl Default for ParkLimits {
    /// 60 seconds, 10,000 requests: what waits in the kernel's queues when a program starts, and what
    /// comes meanwhile. Each holds its head, and as much memory as two idle connections.
    fn default() -> ParkLimits {
        ParkLimits {
            max_wait: Duration::from_secs(60),
            max_requests: 10_000,
        }
    }
}

/// How long a drain waits, and for what. Both times run from its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// For requests, which end by themselves.
    pub requests: Duration,
    /// For streams: tunnels, such as WebSockets, and event streams.
    pub streams: StreamDrain,
}

/// What a drain does about streams, which rarely end before they must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamDrain {
    /// They are neither waited for nor ended. Right where their instances go on, in another set of
    /// upstreams. Where the route is applied at the time, what is left of streams and requests is
    /// drained with its upstreams of then.
    Leave,
    /// They are waited for that long. What is left then ends with its instance, which may say
    /// good-bye to them better than the proxy can.
    Await(Duration),
    /// The proxy ends them: each at a moment of its own, at random in the last half of this time,
    /// so that thousands of clients do not come back at once. Tunnels are closed on both sides; of
    /// an event stream the client sees that it is cut, and connects again. A second after this
    /// time nothing is left of them.
    End(Duration),
}

impl DrainLimits {
    /// Waits for nothing, and leaves streams alone.
    pub const NONE: DrainLimits = DrainLimits {
        requests: Duration::ZERO,
        streams: StreamDrain::Leave,
    };
}

impl From<Duration> for DrainLimits {
    /// As long for both; streams are ended.
    fn from(limit: Duration) -> DrainLimits {
        DrainLimits {
            requests: limit,
            streams: StreamDrain::End(limit),
        }
    }
}

/// Upstreams that a route no longer sends new requests to, but that may still serve old ones.
///
/// It is the ticket for [`Router::drain`], which consumes it: to stop an instance before its
/// requests have ended must not compile.
#[must_use = "the replaced upstreams may still serve requests: drain them before they are stopped"]
pub struct Replaced {
    route: RouteId,
    upstreams: Vec<Upstream>,
    state: Box<dyn Any + Send + Sync>,
}

impl Replaced {
    /// For implementations of [`Router`]: `state` is whatever its `drain` needs.
    pub fn new(
        route: RouteId,
        upstreams: Vec<Upstream>,
        state: impl Any + Send + Sync,
    ) -> Replaced {
        Replaced {
            route,
            upstreams,
            state: Box::new(state),
        }
    }

    /// The route whose upstreams were replaced.
    pub fn route(&self) -> &RouteId {
        &self.route
    }

    /// The upstreams that were replaced.
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// For implementations of [`Router`]: the state given to [`Replaced::new`], or `None` when it
    /// is of another type, so of another implementation.
    pub fn into_state<T: Any>(self) -> Option<T> {
        self.state.downcast().ok().map(|state| *state)
    }
}

impl fmt::Debug for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replaced")
            .field("route", &self.route)
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}

/// The end of a drain: whoever holds one may stop what was drained.
#[derive(Debug)]
#[non_exhaustive]
pub struct Drained {
    /// Requests and streams that had not ended when it stopped waiting.
    pub left: usize,
    /// How long the drain took.
    pub waited: Duration,
}

impl Drained {
    /// For implementations of [`Router`].
    pub fn new(left: usize, waited: Duration) -> Drained {
        Drained { left, waited }
    }

    /// Whether every request had ended.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// Why a route could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// Another route has the host, under the same path.
    #[error("the {} {host} belongs to the route {by}", of_host(path))]
    HostTaken {
        /// The host that both want.
        host: HostPattern,
        /// And the path.
        path: PathPrefix,
        /// The route that has it.
        by: RouteId,
    },
    /// A proxy that runs elsewhere could not be told.
    #[error("the route {route} could not be changed")]
    Backend {
        /// The route that was to be changed.
        route: RouteId,
        /// What the implementation met.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RouteError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            RouteError::HostTaken { host, by, .. } => Some(format!(
                "remove {host} from {by}, or choose another host or path"
            )),
            RouteError::Backend { .. } => None,
        }
    }
}

fn of_host(path: &PathPrefix) -> String {
    match path.as_str() {
        "/" => "host".to_owned(),
        path => format!("path {path} of the host"),
    }
}
