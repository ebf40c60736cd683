use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};

use crate::acme::{Certified, Certifier, CertifierState};
use crate::tls::DnsName;
use crate::{HostPattern, RouteId};

/// A [`Certifier`] that only remembers what it was told: for the tests of what uses one.
#[derive(Debug, Default)]
pub struct MemoryCertifier {
    wanted: Mutex<BTreeMap<RouteId, Vec<DnsName>>>,
}

impl MemoryCertifier {
    /// One that was told nothing.
    pub fn new() -> MemoryCertifier {
        MemoryCertifier::default()
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<RouteId, Vec<DnsName>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Certifier for MemoryCertifier {
    fn want(&self, id: &RouteId, hosts: &[HostPattern]) {
        let names = hosts.iter().filter_map(|host| DnsName::try_from(host).ok());
        self.wanted().insert(id.clone(), names.collect());
    }

    fn forget(&self, id: &RouteId) {
        self.wanted().remove(id);
    }

    async fn settled(&self, id: &RouteId) -> Option<Certified> {
        let wanted = self.wanted();
        wanted.get(id).map(|names| certified(id, names))
    }

    async fn renew(&self, id: &RouteId) -> Option<Certified> {
        self.settled(id).await
    }

    /// Nothing is ever attempted.
    fn watch(&self) -> BoxStream<'static, Certified> {
        stream::pending().boxed()
    }

    fn status(&self) -> Vec<Certified> {
        let wanted = self.wanted();
        wanted
            .iter()
            .map(|(id, names)| certified(id, names))
            .collect()
    }
}

fn certified(id: &RouteId, names: &[DnsName]) -> Certified {
    Certified {
        id: id.clone(),
        names: names.to_vec(),
        not_after: None,
        state: CertifierState::NotNeeded,
    }
}
