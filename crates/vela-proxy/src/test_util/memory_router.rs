use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    DrainLimits, Drained, Maintenance, Park, ParkLimits, Replaced, RouteError, RouteId, RouteSpec,
    Router,
};

/// A [`Router`] that only remembers what it was told: for the tests of what uses one.
#[derive(Debug, Default)]
pub struct MemoryRouter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    routes: BTreeMap<RouteId, (RouteSpec, bool)>,
    drained: Vec<RouteSpec>,
}

impl MemoryRouter {
    /// A router with no routes.
    pub fn new() -> MemoryRouter {
        MemoryRouter::default()
    }

    /// The route as it was last applied; a parked one has no upstreams.
    pub fn route(&self, id: &RouteId) -> Option<RouteSpec> {
        self.lock().routes.get(id).map(|(spec, _)| spec.clone())
    }

    /// Whether the route is parked.
    pub fn is_parked(&self, id: &RouteId) -> bool {
        self.lock()
            .routes
            .get(id)
            .is_some_and(|(_, parked)| *parked)
    }

    /// What was drained, in order; with the route's hosts left out.
    pub fn drained(&self) -> Vec<RouteSpec> {
        self.lock().drained.clone()
    }

    fn set(&self, spec: RouteSpec, park: bool) -> Result<Option<Replaced>, RouteError> {
        let mut state = self.lock();
        for (by, (other, _)) in &state.routes {
            if let Some(host) = spec.hosts.iter().find(|host| other.hosts.contains(host))
                && other.path == spec.path
                && *by != spec.id
            {
                return Err(RouteError::HostTaken {
                    host: host.clone(),
                    path: spec.path.clone(),
                    by: by.clone(),
                });
            }
        }
        let old = state.routes.insert(spec.id.clone(), (spec, park));
        Ok(old.and_then(replaced))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Router for MemoryRouter {
    async fn apply(&self, spec: RouteSpec) -> Result<Option<Replaced>, RouteError> {
        self.set(spec, false)
    }

    async fn drain(&self, replaced: Replaced, _limits: DrainLimits) -> Drained {
        self.lock().drained.push(RouteSpec::new(
            replaced.route().clone(),
            Vec::new(),
            replaced.upstreams().to_vec(),
        ));
        Drained::new(0, Duration::ZERO)
    }

    async fn remove(&self, id: &RouteId) -> Result<Option<Replaced>, RouteError> {
        let old = self.lock().routes.remove(id);
        Ok(old.and_then(replaced))
    }

    async fn maintain(
        &self,
        id: &RouteId,
        maintenance: Option<Maintenance>,
    ) -> Result<(), RouteError> {
        if let Some((spec, _)) = self.lock().routes.get_mut(id) {
            spec.options.maintenance = maintenance;
        }
        Ok(())
    }
}

#[async_trait]
impl Park for MemoryRouter {
    async fn park(
        &self,
        spec: RouteSpec,
        _limits: ParkLimits,
    ) -> Result<Option<Replaced>, RouteError> {
        let spec = RouteSpec {
            upstreams: Vec::new(),
            ..spec
        };
        self.set(spec, true)
    }
}

fn replaced((spec, _): (RouteSpec, bool)) -> Option<Replaced> {
    if spec.upstreams.is_empty() {
        return None;
    }
    Some(Replaced::new(spec.id, spec.upstreams, ()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Proxy;
    use crate::ProxyConfig;
    use crate::test_util::{check_park, check_router};

    #[tokio::test]
    async fn both_routers_conform() {
        check_router(MemoryRouter::new).await;
        check_park(MemoryRouter::new).await;
        check_router(|| Proxy::new(ProxyConfig::default())).await;
        check_park(|| Proxy::new(ProxyConfig::default())).await;
    }
}
