use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::generation::Generation;
use crate::host_pattern::parent;
use crate::parking::Lot;
use crate::tally::{Tallies, Totals};
use crate::{
    HostPattern, Maintenance, ParkLimits, PathPrefix, RouteError, RouteId, RouteOptions, RouteSpec,
    UpstreamStatus,
};

/// Which request goes where. Read without a lock by each request; changed as a whole.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    current: ArcSwap<Table>,
    /// Serialises the writers, and numbers the generations.
    last_generation: Mutex<u64>,
    /// How many count the requests of a route apart.
    workers: usize,
    /// Told after each change.
    changed: Notify,
}

/// A route as it is until its next change.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    pub(crate) path: PathPrefix,
    pub(crate) options: RouteOptions,
    pub(crate) target: Target,
    /// What was counted of its requests since it is in the table, in all its states.
    pub(crate) tallies: Arc<Tallies>,
}

/// Where a route's requests go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Serving(Arc<Generation>),
    Parked(Arc<Lot>),
}

#[derive(Clone, Debug, Default)]
struct Table {
    exact: ByHost,
    below: ByHost,
    by_id: HashMap<RouteId, Arc<Route>>,
}

/// The routes of each host, those of longer paths first.
type ByHost = HashMap<Box<str>, Vec<Arc<Route>>>;

impl RouteTable {
    pub(crate) fn new(workers: usize) -> RouteTable {
        RouteTable {
            workers,
            ..RouteTable::default()
        }
    }

    /// The route of a request for a normalised host.
    pub(crate) fn find(&self, host: &str, target: &str) -> Option<Arc<Route>> {
        let table = self.current.load();
        let find = |routes: &ByHost, host: &str| {
            let mut routes = routes.get(host)?.iter();
            routes.find(|route| route.path.matches(target)).cloned()
        };
        if let Some(route) = find(&table.exact, host) {
            return Some(route);
        }
        match table.below.is_empty() {
            true => None,
            false => find(&table.below, parent(host)?),
        }
    }

    /// The route as it is now.
    pub(crate) fn get(&self, id: &RouteId) -> Option<Arc<Route>> {
        self.current.load().by_id.get(id).cloned()
    }

    /// What was counted of the requests of each route, by its name.
    pub(crate) fn totals(&self) -> Vec<(String, Totals)> {
        let table = self.current.load();
        let routes = table.by_id.values();
        let mut totals: Vec<_> = routes
            .map(|route| (route.id.to_string(), route.tallies.totals()))
            .collect();
        totals.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        totals
    }

    /// Whether the route has not changed.
    fn is_current(&self, route: &Arc<Route>) -> bool {
        let table = self.current.load();
        let now = table.by_id.get(&route.id);
        now.is_some_and(|now| Arc::ptr_eq(now, route))
    }

    /// Waits until the route is not what it was.
    pub(crate) async fn until_changed(&self, route: &Arc<Route>) {
        let mut changed = std::pin::pin!(self.changed.notified());
        loop {
            changed.as_mut().enable();
            if !self.is_current(route) {
                return;
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }

    /// What these still serve is drained with what the route has now, if it has anything.
    pub(crate) fn pass_on(&self, id: &RouteId, elders: &[Arc<Generation>]) {
        if let Some(route) = self.get(id)
            && let Target::Serving(generation) = &route.target
        {
            generation.inherit(elders);
        }
    }

    /// The upstreams of all routes, in the order of the routes' names.
    pub(crate) fn upstreams(&self) -> Vec<UpstreamStatus> {
        let table = self.current.load();
        let mut routes: Vec<_> = table.by_id.values().collect();
        routes.sort_unstable_by_key(|route| &route.id);
        let mut statuses = Vec::new();
        for route in routes {
            if let Target::Serving(generation) = &route.target {
                statuses.extend(generation.statuses(&route.id));
            }
        }
        statuses
    }

    /// Makes or replaces a route; gives the generation to drain.
    pub(crate) fn apply(&self, spec: RouteSpec) -> Result<Option<Arc<Generation>>, RouteError> {
        self.change(spec, |number, upstreams, old| {
            let before = match old {
                Some(Target::Serving(generation)) => Some(&**generation),
                _ => None,
            };
            Target::Serving(Arc::new(Generation::new(number, upstreams, before)))
        })
    }

    /// Makes or replaces a route by one whose requests wait; gives the generation to drain.
    pub(crate) fn park(
        &self,
        spec: RouteSpec,
        limits: ParkLimits,
    ) -> Result<Option<Arc<Generation>>, RouteError> {
        self.change(spec, |_, _, old| match old {
            // Those that wait keep their places.
            Some(Target::Parked(lot)) if lot.limits() == limits => Target::Parked(Arc::clone(lot)),
            _ => Target::Parked(Arc::new(Lot::new(limits))),
        })
    }

    /// Removes a route; gives the generation to drain.
    pub(crate) fn remove(&self, id: &RouteId) -> Option<Arc<Generation>> {
        let _writing = self.lock();
        let mut table = Table::clone(&self.current.load());
        let old = table.take(id)?;
        self.store(table);
        retire(Some(old), None)
    }

    /// Changes who is served by a route, and nothing else of it.
    pub(crate) fn maintain(&self, id: &RouteId, maintenance: Option<Maintenance>) {
        let _writing = self.lock();
        let mut table = Table::clone(&self.current.load());
        let Some(route) = table.by_id.get(id) else {
            return;
        };
        let mut route = Route::clone(route);
        route.options.maintenance = maintenance;
        table.put_in_place(&Arc::new(route));
        self.store(table);
    }

    fn change(
        &self,
        spec: RouteSpec,
        target: impl FnOnce(u64, Vec<crate::Upstream>, Option<&Target>) -> Target,
    ) -> Result<Option<Arc<Generation>>, RouteError> {
        let RouteSpec {
            id,
            hosts,
            path,
            upstreams,
            options,
        } = spec;
        let mut last_generation = self.lock();
        let mut table = Table::clone(&self.current.load());
        let old = table.take(&id);
        if let Some((host, by)) = hosts
            .iter()
            .find_map(|host| Some((host, table.owner(host, &path)?)))
        {
            return Err(RouteError::HostTaken {
                host: host.clone(),
                path,
                by: by.clone(),
            });
        }
        *last_generation += 1;
        let tallies = match &old {
            Some(old) => Arc::clone(&old.tallies),
            None => Arc::new(Tallies::new(self.workers)),
        };
        let before = old.as_ref().map(|old| &old.target);
        let route = Arc::new(Route {
            id,
            path,
            options,
            target: target(*last_generation, upstreams, before),
            tallies,
        });
        for host in &hosts {
            table.insert(host, &route);
        }
        table.by_id.insert(route.id.clone(), Arc::clone(&route));
        self.store(table);
        Ok(retire(old, Some(&route.target)))
    }

    fn store(&self, table: Table) {
        self.current.store(Arc::new(table));
        self.changed.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        // A panic while it was held has left a number and a table that are both whole.
        self.last_generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, id: &RouteId) -> Option<Arc<Route>> {
        for by_host in [&mut self.exact, &mut self.below] {
            by_host.retain(|_, routes| {
                routes.retain(|route| route.id != *id);
                !routes.is_empty()
            });
        }
        self.by_id.remove(id)
    }

    /// Has this route wherever that of the same name was.
    fn put_in_place(&mut self, route: &Arc<Route>) {
        let by_host = self.exact.values_mut().chain(self.below.values_mut());
        let by_id = self.by_id.values_mut();
        for place in by_host.flatten().chain(by_id) {
            if place.id == route.id {
                *place = Arc::clone(route);
            }
        }
    }

    /// The route that has this already.
    fn owner(&self, host: &HostPattern, path: &PathPrefix) -> Option<&RouteId> {
        let routes = match host {
            HostPattern::Exact(host) => self.exact.get(host.as_str()),
            HostPattern::Below(domain) => self.below.get(domain.as_str()),
        };
        let owner = routes?.iter().find(|route| route.path == *path)?;
        Some(&owner.id)
    }

    fn insert(&mut self, host: &HostPattern, route: &Arc<Route>) {
        let routes = match host {
            HostPattern::Exact(host) => self.exact.entry(host.as_str().into()),
            HostPattern::Below(domain) => self.below.entry(domain.as_str().into()),
        }
        .or_default();
        // The same host may be listed twice.
        if routes.iter().all(|other| other.id != route.id) {
            let length = |route: &Route| route.path.as_str().len();
            let place = routes.partition_point(|other| length(other) > length(route));
            routes.insert(place, Arc::clone(route));
        }
    }
}

/// What is no longer in the table: waiting requests go and look again, unless they wait on; a
/// generation without upstreams never had a request to drain.
fn retire(old: Option<Arc<Route>>, new: Option<&Target>) -> Option<Arc<Generation>> {
    match &old?.target {
        Target::Parked(lot) => {
            if let Some(Target::Parked(new)) = new
                && Arc::ptr_eq(lot, new)
            {
                return None;
            }
            lot.open();
            None
        }
        Target::Serving(generation) if generation.upstreams.is_empty() => {
            generation.in_flight().close();
            None
        }
        Target::Serving(generation) => Some(Arc::clone(generation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upstream;

    fn spec(id: &str, hosts: &[&str]) -> RouteSpec {
        under(id, hosts, "/")
    }

    fn under(id: &str, hosts: &[&str], path: &str) -> RouteSpec {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let upstream = Upstream::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        RouteSpec {
            path: path.parse().unwrap(),
            ..RouteSpec::new(id, hosts, vec![upstream])
        }
    }

    fn found(table: &RouteTable, host: &str, target: &str) -> Option<String> {
        let route = table.find(host, target)?;
        Some(route.id.to_string())
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
        assert!(table.find("b.test", "/").is_some());
        assert!(table.find("new.test", "/").is_none());
    }

    #[test]
    fn hosts_that_are_not_listed_are_given_up() {
        let table = RouteTable::default();
        table.apply(spec("a", &["a.test", "www.a.test"])).unwrap();
        assert!(table.apply(spec("a", &["a.test"])).unwrap().is_some());
        assert!(table.find("www.a.test", "/").is_none());
        table.apply(spec("b", &["www.a.test"])).unwrap();
    }

    #[test]
    fn the_same_host_twice_is_one() {
        let table = RouteTable::default();
        table.apply(spec("a", &["a.test", "A.test."])).unwrap();
        assert!(table.remove(&"a".into()).is_some());
        assert!(table.remove(&"a".into()).is_none());
        assert_eq!(found(&table, "a.test", "/"), None);
    }

    #[test]
    fn the_nearest_host_and_the_longest_path_come_first() {
        let table = RouteTable::default();
        for (id, host, path) in [
            ("all", "*.a.test", "/"),
            ("shop", "shop.a.test", "/"),
            ("v2", "shop.a.test", "/api/v2"),
            ("api", "shop.a.test", "/api"),
            ("admin", "admin.a.test", "/admin"),
        ] {
            table.apply(under(id, &[host], path)).unwrap();
        }
        for (host, target, id) in [
            ("shop.a.test", "/", Some("shop")),
            ("shop.a.test", "/apis", Some("shop")),
            ("shop.a.test", "/api?x", Some("api")),
            ("shop.a.test", "/api/v2/x", Some("v2")),
            ("shop.a.test", "*", Some("shop")),
            ("other.a.test", "/api", Some("all")),
            ("admin.a.test", "/admin", Some("admin")),
            ("admin.a.test", "/", Some("all")),
            ("a.test", "/", None),
            ("x.y.a.test", "/", None),
            ("test", "/", None),
        ] {
            assert_eq!(found(&table, host, target).as_deref(), id, "{host}{target}");
        }
        let taken = table
            .apply(under("new", &["shop.a.test"], "/api/"))
            .unwrap_err();
        assert_eq!(
            taken.to_string(),
            "the path /api of the host shop.a.test belongs to the route api"
        );
        // What has moved has left nothing behind.
        table.apply(under("api", &["*.a.test"], "/api")).unwrap();
        assert_eq!(
            found(&table, "shop.a.test", "/api").as_deref(),
            Some("shop")
        );
        assert_eq!(
            found(&table, "other.a.test", "/api").as_deref(),
            Some("api")
        );
    }
}
