use std::net::SocketAddr;
use std::time::Duration;

use crate::{
    DrainLimits, HostPattern, Maintenance, Park, ParkLimits, RouteError, RouteId, RouteSpec,
    Router, Upstream,
};

/// Checks the contract of [`Router`] on fresh routers.
///
/// # Panics
/// When the router breaks it.
pub async fn check_router<R: Router>(make: impl Fn() -> R) {
    let router = make();
    let id = RouteId::new("a");
    let first = apply(&router, spec("a", &["a.test", "www.a.test"], &[1])).await;
    assert!(first.is_none(), "a new route replaces nothing");

    let second = apply(&router, spec("a", &["a.test"], &[2])).await;
    let replaced = second.expect("the upstreams of the first apply");
    assert_eq!(replaced.route(), &id);
    assert_eq!(replaced.upstreams(), upstreams(&[1]));
    let drained = router.drain(replaced, Duration::from_secs(5).into()).await;
    assert!(drained.is_complete(), "there was no request to wait for");

    let given_up = apply(&router, spec("b", &["www.a.test"], &[3])).await;
    assert!(
        given_up.is_none(),
        "a host that is no longer listed is free"
    );
    match router.apply(spec("b", &["new.test", "a.test"], &[4])).await {
        Err(RouteError::HostTaken { host, by, .. }) => {
            assert_eq!((host.to_string(), by), ("a.test".to_owned(), id.clone()));
        }
        other => panic!("a host of two routes: {other:?}"),
    }
    let unchanged = apply(&router, spec("b", &["www.a.test"], &[])).await;
    let unchanged = unchanged.expect("a refused change changes nothing");
    assert_eq!(unchanged.upstreams(), upstreams(&[3]));
    router.drain(unchanged, DrainLimits::NONE).await;
    let empty = apply(&router, spec("b", &["b.test"], &[5])).await;
    assert!(
        empty.is_none(),
        "a route without upstreams has nothing to drain"
    );

    let below = RouteSpec {
        path: "/api".parse().expect("a path"),
        ..spec("c", &["a.test", "*.a.test"], &[7])
    };
    let below = apply(&router, below).await;
    assert!(below.is_none(), "a host may have a route for each path");

    for maintenance in [Some(Maintenance::default()), None] {
        for known in [&id, &RouteId::new("unknown")] {
            let maintained = router.maintain(known, maintenance.clone()).await;
            maintained.expect("a change");
        }
    }
    let removed = router.remove(&id).await.expect("a removal");
    let removed = removed.expect("maintenance replaces nothing");
    assert_eq!(removed.upstreams(), upstreams(&[2]));
    let again = router.remove(&id).await.expect("a removal");
    assert!(again.is_none(), "removal is idempotent");
    let free = apply(&router, spec("d", &["a.test"], &[6])).await;
    assert!(free.is_none(), "the hosts of a removed route are free");
}

/// Checks the contract of [`Park`] on fresh routers.
///
/// # Panics
/// When the router breaks it.
pub async fn check_park<R: Router + Park>(make: impl Fn() -> R) {
    let router = make();
    let id = RouteId::new("a");
    let limits = ParkLimits::default();
    let unknown = router.park(spec("a", &["a.test"], &[9]), limits).await;
    assert!(
        unknown.expect("a park").is_none(),
        "a route may not exist yet"
    );
    match router.apply(spec("b", &["a.test"], &[1])).await {
        Err(RouteError::HostTaken { .. }) => {}
        other => panic!("a parked route has its hosts: {other:?}"),
    }
    let applied = apply(&router, spec("a", &["a.test"], &[1])).await;
    assert!(applied.is_none(), "a parked route has nothing to drain");
    let parked = router.park(spec("a", &["a.test"], &[9]), limits).await;
    let replaced = parked.expect("a park").expect("the route's upstreams");
    assert_eq!(replaced.upstreams(), upstreams(&[1]));
    assert!(
        router
            .drain(replaced, DrainLimits::NONE)
            .await
            .is_complete()
    );
    let again = router.park(spec("a", &["a.test"], &[9]), limits).await;
    assert!(again.expect("a park").is_none(), "it was parked already");
    let maintained = router.maintain(&id, Some(Maintenance::default())).await;
    maintained.expect("a change");
    let removed = router.remove(&id).await.expect("a removal");
    assert!(removed.is_none(), "a parked route has nothing to drain");
}

async fn apply<R: Router>(router: &R, spec: RouteSpec) -> Option<crate::Replaced> {
    router.apply(spec).await.expect("a change")
}

fn spec(id: &str, names: &[&str], ports: &[u16]) -> RouteSpec {
    let parse = |name: &&str| -> HostPattern { name.parse().expect("a host") };
    let hosts = names.iter().map(parse).collect();
    RouteSpec::new(id, hosts, upstreams(ports))
}

fn upstreams(ports: &[u16]) -> Vec<Upstream> {
    let upstream = |&port| Upstream::new(SocketAddr::from(([127, 0, 0, 1], port)));
    ports.iter().map(upstream).collect()
}
