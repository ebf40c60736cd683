use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::generation::Generation;
use crate::parking::Lot;
use crate::{Host, ParkLimits, RouteError, RouteId, RouteSpec};

/// Which host goes where. Read without a lock by each request; changed as a whole.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    current: ArcSwap<Table>,
    /// Serialises the writers, and numbers the generations.
    last_generation: Mutex<u64>,
}

/// Where a route's requests go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Serving(Arc<Generation>),
    Parked(Arc<Lot>),
}

#[derive(Clone, Debug, Default)]
struct Table {
    by_host: HashMap<Host, (RouteId, Target)>,
    by_id: HashMap<RouteId, Target>,
}

impl RouteTable {
    /// The route of a normalised host.
    pub(crate) fn find(&self, host: &str) -> Option<Target> {
        let table = self.current.load();
        table.by_host.get(host).map(|(_, target)| target.clone())
    }

    /// Whether the host still goes to this generation.
    pub(crate) fn has(&self, host: &str, generation: &Generation) -> bool {
        match self.current.load().by_host.get(host) {
            Some((_, Target::Serving(current))) => current.id == generation.id,
            _ => false,
        }
    }

    /// Makes or replaces a route; gives the generation to drain.
    pub(crate) fn apply(&self, spec: RouteSpec) -> Result<Option<Arc<Generation>>, RouteError> {
        self.change(&spec.id, spec.hosts, |number| {
            Target::Serving(Arc::new(Generation::new(number, spec.upstreams)))
        })
    }

    /// Makes or replaces a route by one whose requests wait; gives the generation to drain.
    pub(crate) fn park(
        &self,
        id: &RouteId,
        hosts: Vec<Host>,
        limits: ParkLimits,
    ) -> Result<Option<Arc<Generation>>, RouteError> {
        self.change(id, hosts, |_| Target::Parked(Arc::new(Lot::new(limits))))
    }

    /// Removes a route; gives the generation to drain.
    pub(crate) fn remove(&self, id: &RouteId) -> Option<Arc<Generation>> {
        let _writing = self.lock();
        let mut table = Table::clone(&self.current.load());
        let old = table.take(id)?;
        self.current.store(Arc::new(table));
        retire(Some(old))
    }

    fn change(
        &self,
        id: &RouteId,
        hosts: Vec<Host>,
        target: impl FnOnce(u64) -> Target,
    ) -> Result<Option<Arc<Generation>>, RouteError> {
        let mut last_generation = self.lock();
        let mut table = Table::clone(&self.current.load());
        let old = table.take(id);
        if let Some((host, by)) = hosts
            .iter()
            .find_map(|host| Some((host, &table.by_host.get(host)?.0)))
        {
            return Err(RouteError::HostTaken {
                host: host.clone(),
                by: by.clone(),
            });
        }
        *last_generation += 1;
        let target = target(*last_generation);
        for host in hosts {
            table.by_host.insert(host, (id.clone(), target.clone()));
        }
        table.by_id.insert(id.clone(), target);
        self.current.store(Arc::new(table));
        Ok(retire(old))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        // A panic while it was held has left a number and a table that are both whole.
        self.last_generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, id: &RouteId) -> Option<Target> {
        self.by_host.retain(|_, (owner, _)| owner != id);
        self.by_id.remove(id)
    }
}

/// What is no longer in the table: waiting requests go and look again; a generation without
/// upstreams never had a request to drain.
fn retire(old: Option<Target>) -> Option<Arc<Generation>> {
    match old? {
        Target::Parked(lot) => {
            lot.open();
            None
        }
        Target::Serving(generation) if generation.upstreams.is_empty() => {
            generation.in_flight().close();
            None
        }
        Target::Serving(generation) => Some(generation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upstream;

    fn spec(id: &str, hosts: &[&str]) -> RouteSpec {
        RouteSpec {
            id: id.into(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            upstreams: vec![Upstream::new(([127, 0, 0, 1], 1).into())],
        }
    }

    #[test]
    fn a_refused_change_changes_nothing() {
        let table = RouteTable::default();
        table.apply(spec("a", &["a.test"])).unwrap();
        table.apply(spec("b", &["b.test"])).unwrap();
        let refused = table.apply(spec("b", &["new.test", "a.test"])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the host a.test belongs to the route a"
        );
        assert!(refused.hint().is_some());
        assert!(table.find("b.test").is_some());
        assert!(table.find("new.test").is_none());
    }

    #[test]
    fn hosts_that_are_not_listed_are_given_up() {
        let table = RouteTable::default();
        table.apply(spec("a", &["a.test", "www.a.test"])).unwrap();
        assert!(table.apply(spec("a", &["a.test"])).unwrap().is_some());
        assert!(table.find("www.a.test").is_none());
        table.apply(spec("b", &["www.a.test"])).unwrap();
    }

    #[test]
    fn the_same_host_twice_is_one() {
        let table = RouteTable::default();
        table.apply(spec("a", &["a.test", "A.test."])).unwrap();
        assert!(table.remove(&"a".into()).is_some());
        assert!(table.remove(&"a".into()).is_none());
    }
}
