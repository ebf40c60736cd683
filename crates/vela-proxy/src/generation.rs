use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::balancer::Balancer;
use crate::curfew::Curfew;
use crate::health::Health;
use crate::in_flight::InFlight;
use crate::{RouteId, Upstream, UpstreamStatus};

/// The upstreams of a route from one `apply` to the next, with the requests that they serve.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Never given twice: pooled connections are kept by it.
    pub(crate) id: u64,
    pub(crate) upstreams: Vec<Upstream>,
    /// Where there is a choice.
    balancer: Option<Balancer>,
    in_flight: InFlight,
    curfew: Curfew,
    /// Those before it that were closed, but whose instances went on: what they still serve is
    /// drained with it.
    elders: Mutex<Vec<Weak<Generation>>>,
}

impl Generation {
    /// What was ejected in the one `before` it, and is the same, stays so.
    pub(crate) fn new(
        id: u64,
        upstreams: Vec<Upstream>,
        before: Option<&Generation>,
    ) -> Generation {
        let known = |upstream: &Upstream| before?.health_of(upstream);
        Generation {
            id,
            balancer: (upstreams.len() > 1).then(|| Balancer::new(&upstreams, known)),
            upstreams,
            in_flight: InFlight::new(),
            curfew: Curfew::default(),
            elders: Mutex::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// `None` with less than two upstreams.
    pub(crate) fn balancer(&self) -> Option<&Balancer> {
        self.balancer.as_ref()
    }

    /// When its streams end.
    pub(crate) fn curfew(&self) -> &Curfew {
        &self.curfew
    }

    /// The health of an upstream that is the same instance, whatever its weight.
    fn health_of(&self, upstream: &Upstream) -> Option<Arc<Health>> {
        let is_same = |own: &Upstream| own.address == upstream.address && own.tag == upstream.tag;
        let index = self.upstreams.iter().position(is_same)?;
        Some(Arc::clone(self.balancer.as_ref()?.health(index)))
    }

    pub(crate) fn upstream_in_flight(&self, upstream: usize) -> usize {
        match &self.balancer {
            Some(balancer) => balancer.in_flight(upstream),
            None => self.in_flight.count(),
        }
    }

    /// Its upstreams as they are now.
    pub(crate) fn statuses(&self, route: &RouteId) -> impl Iterator<Item = UpstreamStatus> {
        let upstreams = self.upstreams.iter().enumerate();
        upstreams.map(|(index, upstream)| UpstreamStatus {
            route: route.clone(),
            tag: upstream.tag.clone(),
            address: upstream.address.clone(),
            in_flight: self.upstream_in_flight(index),
            is_ejected: match &self.balancer {
                Some(balancer) => balancer.health(index).is_ejected(),
                None => false,
            },
        })
    }

    /// It, and its elders that still serve something.
    pub(crate) fn with_elders(self: &Arc<Generation>) -> Vec<Arc<Generation>> {
        let mut all = vec![Arc::clone(self)];
        all.extend(self.elders().iter().filter_map(Weak::upgrade));
        all
    }

    /// What these still serve is drained with this one.
    pub(crate) fn inherit(&self, elders: &[Arc<Generation>]) {
        let mut mine = self.elders();
        mine.retain(|elder| elder.strong_count() > 0);
        mine.extend(elders.iter().map(Arc::downgrade));
    }

    fn elders(&self) -> MutexGuard<'_, Vec<Weak<Generation>>> {
        self.elders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<InFlight> for Generation {
    fn as_ref(&self) -> &InFlight {
        &self.in_flight
    }
}
