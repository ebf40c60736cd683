use std::sync::Arc;

use async_trait::async_trait;

use super::Certifier;
use crate::{
    DrainLimits, Drained, Maintenance, Metrics, Park, ParkLimits, Replaced, RouteError, RouteId,
    RouteSpec, Router, Stats,
};

/// A router that tells a [`Certifier`] which hosts it routes, so that whoever uses it need not.
/// Each change of a route counts: who may take one back tells the certifier itself, once it stays.
#[derive(Clone, Debug)]
pub struct CertifyingRouter<R> {
    router: R,
    certifier: Arc<dyn Certifier>,
}

impl<R> CertifyingRouter<R> {
    /// Routes by `router`, and tells `certifier`.
    pub fn new(router: R, certifier: Arc<dyn Certifier>) -> CertifyingRouter<R> {
        CertifyingRouter { router, certifier }
    }
}

#[async_trait]
impl<R: Router> Router for CertifyingRouter<R> {
    async fn apply(&self, spec: RouteSpec) -> Result<Option<Replaced>, RouteError> {
        let (id, hosts) = (spec.id.clone(), spec.hosts.clone());
        let replaced = self.router.apply(spec).await?;
        self.certifier.want(&id, &hosts);
        Ok(replaced)
    }

    async fn maintain(
        &self,
        id: &RouteId,
        maintenance: Option<Maintenance>,
    ) -> Result<(), RouteError> {
        self.router.maintain(id, maintenance).await
    }

    async fn drain(&self, replaced: Replaced, limits: DrainLimits) -> Drained {
        self.router.drain(replaced, limits).await
    }

    async fn remove(&self, id: &RouteId) -> Result<Option<Replaced>, RouteError> {
        let replaced = self.router.remove(id).await?;
        self.certifier.forget(id);
        Ok(replaced)
    }

    fn stats(&self) -> Option<Stats> {
        self.router.stats()
    }

    fn metrics(&self) -> Option<Metrics> {
        let certified = self.certifier.status();
        Some(self.router.metrics()?.with_certified(certified))
    }
}

#[async_trait]
impl<R: Park> Park for CertifyingRouter<R> {
    async fn park(
        &self,
        spec: RouteSpec,
        limits: ParkLimits,
    ) -> Result<Option<Replaced>, RouteError> {
        let (id, hosts) = (spec.id.clone(), spec.hosts.clone());
        let replaced = self.router.park(spec, limits).await?;
        self.certifier.want(&id, &hosts);
        Ok(replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{MemoryCertifier, MemoryRouter, check_park, check_router};

    #[tokio::test]
    async fn it_is_a_router_that_tells() {
        let certifier = Arc::new(MemoryCertifier::new());
        let make = || CertifyingRouter::new(MemoryRouter::new(), certifier.clone());
        check_router(make).await;
        let told = certifier.status();
        let told: Vec<_> = told
            .iter()
            .map(|one| (one.id.as_str(), one.names[0].as_str()))
            .collect();
        // What the checks leave: neither what was removed nor what was refused.
        assert_eq!(told, [("b", "b.test"), ("c", "a.test"), ("d", "a.test")]);

        certifier.forget(&"b".into());
        certifier.forget(&"c".into());
        certifier.forget(&"d".into());
        check_park(make).await;
        assert!(certifier.status().is_empty(), "all removed");
    }
}
