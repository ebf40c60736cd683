use std::sync::Arc;

use async_trait::async_trait;

use super::Certifier;
use crate::{
    DrainLimits, Drained, Host, Park, ParkLimits, Replaced, RouteError, RouteId, RouteSpec, Router,
    Stats,
};

/// A router that tells a [`Certifier`] which hosts it routes, so that whoever uses it need not.
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
}

#[async_trait]
impl<R: Park> Park for CertifyingRouter<R> {
    async fn park(
        &self,
        id: &RouteId,
        hosts: Vec<Host>,
        limits: ParkLimits,
    ) -> Result<Option<Replaced>, RouteError> {
        let replaced = self.router.park(id, hosts.clone(), limits).await?;
        self.certifier.want(id, &hosts);
        Ok(replaced)
    }
}
