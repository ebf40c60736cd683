//! What is counted, by app, as a monitoring system reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::world::{Backend, Client, LONG, World, spec};
use vela_proxy::{Limits, Metrics, Park, ParkLimits, ProxyConfig, Router};

#[tokio::test]
async fn requests_are_counted_by_app_method_and_class() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody",
        "PUT /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "BREW / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /bye HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /garbage HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /cut HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "DELETE / HTTP/1.1\r\nHost: unknown.test\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET\x01/ HTTP/1.1\r\n\r\n",
        "GET /\n",
    ] {
        let mut client = world.client().await;
        client.send(request).await;
        client.read_head().await.unwrap();
    }
    let all = r#"vela_proxy_requests_total{app="app","#;
    let metrics = until_sum(&world, "vela_proxy_requests_total{", 12.0).await;
    for (labels, value) in [
        (r#"method="GET",class="2xx"}"#, 3.0), // with the one that was cut short
        (r#"method="POST",class="2xx"}"#, 1.0),
        (r#"method="PUT",class="2xx"}"#, 1.0),
        (r#"method="other",class="2xx"}"#, 1.0),
        (r#"method="GET",class="5xx"}"#, 2.0),
    ] {
        assert_eq!(
            metrics.value(&format!("{all}{labels}")),
            Some(value),
            "{labels}"
        );
    }
    for (sample, value) in [
        (r#"requests_total{app="",method="DELETE",class="4xx"}"#, 1.0),
        (r#"requests_total{app="",method="GET",class="4xx"}"#, 2.0),
        (r#"requests_total{app="",method="other",class="4xx"}"#, 1.0),
        (r#"clients_left_total{app="app"}"#, 0.0),
        (r#"requests_in_flight{app="app"}"#, 0.0),
        (r#"upstream_errors_total{app="app",kind="lost"}"#, 1.0),
        (r#"upstream_errors_total{app="app",kind="malformed"}"#, 1.0),
        (r#"upstream_errors_total{app="app",kind="cut_short"}"#, 1.0),
        (
            r#"upstream_errors_total{app="app",kind="unreachable"}"#,
            0.0,
        ),
        (r#"request_body_bytes_total{app="app"}"#, 7.0),
        // one, one, body, abc, one, ten bytes. and two pages
        (r#"request_duration_seconds_count{app="app"}"#, 8.0),
        (
            r#"request_duration_seconds_bucket{le="60.0",app="app"}"#,
            8.0,
        ),
        ("connections_accepted_total", 12.0),
    ] {
        let sample = format!("vela_proxy_{sample}");
        assert_eq!(metrics.value(&sample), Some(value), "{sample}");
    }
    let version = format!(
        "vela_proxy_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(metrics.value(&version), Some(1.0));
    assert_eq!(world.proxy.stats().upstream_errors, 3);
    let of_router = Router::metrics(&world.proxy).unwrap();
    assert_eq!(of_router.content_type(), Metrics::CONTENT_TYPE);
}

#[tokio::test]
async fn bodies_are_counted_whole_and_without_their_framing() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let body = "x".repeat(300_000);
    let mut client = world.client().await;
    for request in [
        format!("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 300000\r\n\r\n{body}"),
        format!(
            "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n{body}\r\n0\r\n\r\n"
        ),
        "GET /trailers HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
        "GET /until-close HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
    ] {
        client.send(request).await;
        assert_eq!(client.answer().await.status, 200);
    }
    // A page of the proxy's own has a body too.
    let page = client.get("/bye").await;
    assert_eq!(page.status, 502);
    let out = 600_000 + "ok".len() + "to the end".len() + page.body.len();
    let sample = r#"vela_proxy_response_body_bytes_total{app="app"}"#;
    let metrics = world.metrics_when(sample, out as f64).await;
    let sample = r#"vela_proxy_request_body_bytes_total{app="app"}"#;
    assert_eq!(metrics.value(sample), Some(600_000.0));
}

#[tokio::test]
async fn no_client_makes_new_series() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let scan = async |round: usize| {
        let mut client = world.client().await;
        for host in [format!("h{round}.test"), "a.test".to_owned()] {
            client
                .send(format!(
                    "M{round} /{round} HTTP/1.1\r\nHost: {host}\r\n\r\n"
                ))
                .await;
            client.answer().await;
        }
    };
    scan(0).await;
    let first = until_sum(&world, "vela_proxy_requests_total{", 2.0).await;
    for round in 1..20 {
        scan(round).await;
    }
    let last = until_sum(&world, "vela_proxy_requests_total{", 40.0).await;
    assert!(first.samples().eq(last.samples()));
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_counted_as_that() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    client
        .send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    backend.until_requests(1).await;
    let in_flight = r#"vela_proxy_requests_in_flight{app="app"}"#;
    assert_eq!(world.metrics().value(in_flight), Some(1.0));
    drop(client);
    let left = r#"vela_proxy_clients_left_total{app="app"}"#;
    let metrics = world.metrics_when(left, 1.0).await;
    let get = r#"vela_proxy_requests_total{app="app",method="GET",class="4xx"}"#;
    assert_eq!(metrics.value(get), Some(1.0));

    // In the middle of what it sends.
    let mut client = world.client().await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    backend.until_requests(2).await;
    drop(client);
    world.metrics_when(left, 2.0).await;

    // What is wrong with a request is another matter.
    let mut client = world.client().await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        .await;
    assert_eq!(client.answer().await.status, 400);
    let post = r#"vela_proxy_requests_total{app="app",method="POST",class="4xx"}"#;
    let metrics = world.metrics_when(post, 2.0).await;
    assert_eq!(metrics.value(left), Some(2.0));
    assert_eq!(metrics.value(in_flight), Some(0.0));
}

#[tokio::test]
async fn streams_are_counted_apart_from_durations() {
    let world = World::start();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut socket = world.client().await;
    socket
        .send("GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(socket.answer().await.status, 101);
    socket.send("four").await;
    assert_eq!(socket.read_exactly(10).await, "hello four");
    let mut events = world.client().await;
    events
        .send("GET /events HTTP/1.0\r\nHost: a.test\r\n\r\n")
        .await;
    events.read_head().await.unwrap();
    assert_eq!(events.read_exactly(9).await, "data: 1\n\n");
    let metrics = world.metrics();
    for kind in ["tunnel", "events"] {
        let open = format!(r#"vela_proxy_streams_in_flight{{app="app",kind="{kind}"}}"#);
        assert_eq!(metrics.value(&open), Some(1.0), "{kind}");
    }
    let in_flight = r#"vela_proxy_requests_in_flight{app="app"}"#;
    assert_eq!(metrics.value(in_flight), Some(2.0));

    backend.open_gate(1);
    events.rest().await;
    drop(socket);
    let metrics = world.metrics_when(in_flight, 0.0).await;
    for kind in ["tunnel", "events"] {
        let open = format!(r#"vela_proxy_streams_in_flight{{app="app",kind="{kind}"}}"#);
        let total = format!(r#"vela_proxy_streams_total{{app="app",kind="{kind}"}}"#);
        assert_eq!(metrics.value(&open), Some(0.0), "{kind}");
        assert_eq!(metrics.value(&total), Some(1.0), "{kind}");
    }
    for (sample, value) in [
        (r#"requests_total{app="app",method="GET",class="1xx"}"#, 1.0),
        (r#"requests_total{app="app",method="GET",class="2xx"}"#, 1.0),
        (r#"request_duration_seconds_count{app="app"}"#, 0.0),
        (r#"request_body_bytes_total{app="app"}"#, 4.0),
        (r#"response_body_bytes_total{app="app"}"#, 19.0),
    ] {
        let sample = format!("vela_proxy_{sample}");
        assert_eq!(metrics.value(&sample), Some(value), "{sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_outlive_50_switches_and_go_with_their_route() {
    let world = World::start();
    let backends = [Backend::start("one").await, Backend::start("two").await];
    drop(world.route(&[backends[0].addr]).await);
    let done = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (done, addr) = (Arc::clone(&done), world.addr);
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                for _ in 0..500 {
                    assert_eq!(client.get("/").await.status, 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for switch in 0..50 {
        // Spread over the load.
        while done.load(Ordering::Relaxed) < switch * 35
            && load.iter().all(|one| !one.is_finished())
        {
            tokio::task::yield_now().await;
        }
        let next = spec("app", "a.test", &[backends[(switch + 1) % 2].addr]);
        if switch % 10 == 9 {
            let limits = ParkLimits::default();
            let replaced = world.proxy.park(next.clone(), limits).await.unwrap();
            let drained = world.proxy.drain(replaced.unwrap(), LONG.into()).await;
            assert!(drained.is_complete());
        }
        if let Some(replaced) = world.proxy.apply(next).await.unwrap() {
            assert!(world.proxy.drain(replaced, LONG.into()).await.is_complete());
        }
    }
    for one in load {
        one.await.unwrap();
    }
    let total = r#"vela_proxy_requests_total{app="app",method="GET",class="2xx"}"#;
    let metrics = world.metrics_when(total, 2000.0).await;
    let count = r#"vela_proxy_request_duration_seconds_count{app="app"}"#;
    assert_eq!(metrics.value(count), Some(2000.0));

    world.proxy.remove(&"app".into()).await.unwrap();
    assert!(
        !world
            .metrics()
            .samples()
            .any(|sample| sample.contains("app=\"app\""))
    );
    drop(world.route(&[backends[0].addr]).await);
    assert_eq!(world.metrics().value(count), Some(0.0));
}

#[tokio::test]
async fn parked_requests_and_retries_are_their_routes() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let parked = spec("app", "a.test", &[]);
    drop(
        world
            .proxy
            .park(parked, ParkLimits::default())
            .await
            .unwrap(),
    );
    let other = spec("other", "b.test", &[backend.addr]);
    drop(world.proxy.apply(other).await.unwrap());
    let mut client = world.client().await;
    client
        .send("GET /once HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let now = r#"vela_proxy_requests_parked{app="app"}"#;
    world.metrics_when(now, 1.0).await;
    drop(world.route(&[backend.addr]).await);
    assert_eq!(client.answer().await.body, "one");
    // The kept connection closes while it is used again.
    assert_eq!(client.get("/").await.body, "one");
    let retries = r#"vela_proxy_retries_total{app="app"}"#;
    let metrics = world.metrics_when(retries, 1.0).await;
    for (sample, value) in [
        (r#"requests_parked{app="app"}"#, 0.0),
        (r#"parked_requests_total{app="app"}"#, 1.0),
        (r#"parked_requests_total{app="other"}"#, 0.0),
        (r#"retries_total{app="other"}"#, 0.0),
    ] {
        let sample = format!("vela_proxy_{sample}");
        assert_eq!(metrics.value(&sample), Some(value), "{sample}");
    }
}

#[tokio::test]
async fn connections_are_counted_those_that_are_refused_too() {
    let world = World::with(ProxyConfig {
        limits: Limits {
            connections_per_address: 1,
            ..Limits::default()
        },
        ..ProxyConfig::default()
    });
    let mut first = world.client().await;
    assert_eq!(first.get("/").await.status, 404);
    assert_eq!(world.client().await.rest().await, "");
    let refused = r#"vela_proxy_connections_refused_total{reason="address_limit"}"#;
    let metrics = world.metrics_when(refused, 1.0).await;
    assert_eq!(metrics.value("vela_proxy_connections"), Some(1.0));
    assert_eq!(
        metrics.value("vela_proxy_connections_accepted_total"),
        Some(1.0)
    );
    drop(first);
    world.metrics_when("vela_proxy_connections", 0.0).await;
}

#[tokio::test]
async fn upstreams_that_are_ejected_are_told() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let down = Backend::start("two").await;
    let addr = down.addr;
    down.kill().await;
    drop(world.route(&[backend.addr, addr]).await);
    let other = spec("other", "b.test", &[backend.addr]);
    drop(world.proxy.apply(other).await.unwrap());
    let ejected = r#"vela_proxy_upstreams_ejected{app="app"}"#;
    assert_eq!(world.metrics().value(ejected), Some(0.0));
    while world.ejected().is_empty() {
        assert_eq!(world.get("/").await.status, 200);
    }
    let metrics = world.metrics();
    for (sample, value) in [
        (r#"upstreams{app="app"}"#, 2.0),
        (r#"upstreams_ejected{app="app"}"#, 1.0),
        (r#"upstreams{app="other"}"#, 1.0),
        (r#"upstreams_ejected{app="other"}"#, 0.0),
    ] {
        let sample = format!("vela_proxy_{sample}");
        assert_eq!(metrics.value(&sample), Some(value), "{sample}");
    }
}

#[tokio::test]
async fn a_name_of_any_letters_is_a_label() {
    let world = World::start();
    let name = "a\"},\\\n{";
    drop(world.proxy.apply(spec(name, "a.test", &[])).await.unwrap());
    let sample = r#"vela_proxy_requests_in_flight{app="a\"},\\\n{"}"#;
    assert_eq!(world.metrics().value(sample), Some(0.0));
}

async fn until_sum(world: &World, begin: &str, value: f64) -> crate::world::Exposition {
    let waiting = async {
        loop {
            let metrics = world.metrics();
            if metrics.sum(begin) >= value {
                assert_eq!(metrics.sum(begin), value);
                return metrics;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let reached = tokio::time::timeout(LONG, waiting).await;
    reached.unwrap_or_else(|_| panic!("{begin}: {}", world.metrics().sum(begin)))
}
