//! What the proxy answers by itself: pages that somebody wrote, and maintenance.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::world::{Backend, LONG, World, spec};
use vela_proxy::{
    DrainLimits, ErrorPages, Maintenance, Park, ParkLimits, ProxyConfig, RouteId, RouteOptions,
    RouteSpec, Router,
};

/// A directory with pages, until they are loaded.
fn pages(name: &str, files: &[(&str, &str)]) -> Arc<ErrorPages> {
    let dir: PathBuf = std::env::temp_dir().join(format!("vela-{}-{name}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    for (file, text) in files {
        std::fs::write(dir.join(file), text).unwrap();
    }
    let pages = ErrorPages::load(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    Arc::new(pages.unwrap())
}

fn with_pages(spec: RouteSpec, pages: &Arc<ErrorPages>) -> RouteSpec {
    RouteSpec {
        options: RouteOptions {
            error_pages: Some(Arc::clone(pages)),
            ..spec.options
        },
        ..spec
    }
}

fn closed(message: Option<&str>) -> Option<Maintenance> {
    Some(Maintenance {
        message: message.map(Into::into),
        allow: Vec::new(),
    })
}

#[tokio::test]
async fn the_route_s_page_comes_before_the_proxy_s_and_that_before_none() {
    let of_proxy = pages(
        "all",
        &[
            ("404.html", "<p>nothing here"),
            ("5xx.html", "<p>{{status}}"),
        ],
    );
    let of_route = pages(
        "one",
        &[
            ("502.html", "<h1>{{status}} {{reason}}</h1>{{message}}"),
            ("413.html", "<p>less, please"),
        ],
    );
    let world = World::with(ProxyConfig {
        error_pages: Some(of_proxy),
        ..ProxyConfig::default()
    });
    let gone = Backend::start("gone").await;
    let addr = gone.addr;
    gone.kill().await;
    let route = with_pages(spec("app", "a.test", &[addr]), &of_route);
    let options = RouteOptions {
        max_body: Some(3),
        ..route.options
    };
    let apply = async |route| drop(world.proxy.apply(route).await.unwrap());
    apply(RouteSpec { options, ..route }).await;
    apply(with_pages(spec("off", "off.test", &[]), &of_route)).await;
    for (request, status, body) in [
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            502,
            "<h1>502 Bad Gateway</h1>the app does not accept connections",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody",
            413,
            "<p>less, please",
        ),
        ("GET / HTTP/1.1\r\nHost: off.test\r\n\r\n", 503, "<p>503"),
        (
            "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n",
            404,
            "<p>nothing here",
        ),
    ] {
        let mut client = world.client().await;
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &*answer.body), (status, body), "{request}");
        let html = Some("text/html; charset=utf-8");
        assert_eq!(answer.header("content-type"), html);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
    }
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        "400 Bad Request\nthe request has no Host header\n"
    );
    let plain = Some("text/plain; charset=utf-8");
    assert_eq!(answer.header("content-type"), plain);
}

#[tokio::test]
async fn a_head_request_gets_the_length_of_the_page_and_not_the_page() {
    let world = World::with(ProxyConfig {
        error_pages: Some(pages("head", &[("404.html", "<p>nothing here")])),
        ..ProxyConfig::default()
    });
    let mut client = world.client().await;
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
        let answer = client.head_answer().await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("content-length"), Some("15"));
    }
    // What is refused, too, once it has been read or before.
    let long = format!("HEAD /{}", "x".repeat(20_000));
    for (sent, status) in [("HEAD / HTTP/1.1\r\n\r\n", 400), (&*long, 414)] {
        let mut client = world.client().await;
        client.send(sent).await;
        assert_eq!(client.head_answer().await.status, status);
        assert_eq!(client.rest().await, "", "{status}");
    }
}

#[tokio::test]
async fn each_page_says_when_it_was_written() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let route = spec("app", "a.test", &[backend.addr]);
    let options = RouteOptions {
        canonical: Some("a.test".parse().unwrap()),
        ..RouteOptions::default()
    };
    let hosts = vec!["a.test".parse().unwrap(), "b.test".parse().unwrap()];
    let route = RouteSpec {
        hosts,
        options,
        ..route
    };
    drop(world.proxy.apply(route).await.unwrap());
    drop(
        world
            .proxy
            .apply(spec("off", "off.test", &[]))
            .await
            .unwrap(),
    );
    for (host, status) in [
        ("b.test", 308),
        ("a b", 400),
        ("c.test", 404),
        ("off.test", 503),
    ] {
        // It tells whole seconds.
        let before = SystemTime::now() - Duration::from_secs(1);
        let mut client = world.client().await;
        client
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.head.matches("\r\ndate: ").count(), 1, "{answer:?}");
        let date = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
        assert!((before..=SystemTime::now()).contains(&date), "{answer:?}");
    }
    // An app's answer is its own.
    let answer = world.get("/").await;
    assert_eq!((answer.status, answer.header("date")), (200, None));
}

/// It was told nothing of one that stays.
#[tokio::test]
async fn a_page_ends_a_connection_of_the_older_http() {
    let world = World::start();
    let mut client = world.client().await;
    client
        .send("GET / HTTP/1.0\r\nHost: b.test\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_long_page_arrives_whole_at_clients_that_take_their_time() {
    let text = "0123456789abcdef".repeat(16 * 1024);
    let world = World::with(ProxyConfig {
        error_pages: Some(pages("long", &[("404.html", &text)])),
        ..ProxyConfig::default()
    });
    let mut slow = world.client().await;
    // More answers than what is between the two holds.
    let asked = 64;
    let request = "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n";
    slow.send(request.repeat(asked)).await;
    // The worker serves others meanwhile.
    for _ in 0..8 {
        assert!(world.get("/").await.body == text);
    }
    for _ in 0..asked {
        assert!(slow.answer().await.body == text);
    }
}

#[tokio::test]
async fn maintenance_has_a_page_of_its_own_and_its_message_is_text() {
    let world = World::start();
    let all = [
        ("maintenance.html", "<p>closed: {{message}}"),
        ("503.html", "<p>down: {{message}}"),
    ];
    let backend = Backend::start("one").await;
    let id = RouteId::new("app");
    for (pages, begin) in [
        (pages("own", &all), "<p>closed: "),
        (pages("other", &all[1..]), "<p>down: "),
    ] {
        let route = with_pages(spec("app", "a.test", &[backend.addr]), &pages);
        drop(world.proxy.apply(route).await.unwrap());
        let maintenance = closed(Some("<b>\"back\" & more</b>"));
        world.proxy.maintain(&id, maintenance).await.unwrap();
        let answer = world.get("/").await;
        assert_eq!(answer.status, 503);
        let told = format!("{begin}&lt;b&gt;&quot;back&quot; &amp; more&lt;/b&gt;");
        assert_eq!(answer.body, told);
        world.proxy.maintain(&id, None).await.unwrap();
        assert_eq!(world.get("/").await.body, "one");
    }
}

/// What is in flight when it begins or ends goes on, and the next drain still waits for it.
#[tokio::test]
async fn maintenance_cuts_nothing_and_loses_no_request_of_a_drain() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    drop(world.route(&[old.addr]).await);
    let id = RouteId::new("app");
    let mut slow = world.client().await;
    slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    old.until_requests(1).await;
    for maintenance in [closed(None), None] {
        let status = if maintenance.is_some() { 503 } else { 200 };
        for _ in 0..2 {
            let told = world.proxy.maintain(&id, maintenance.clone()).await;
            told.unwrap();
            assert_eq!(world.get("/").await.status, status);
        }
    }
    let replaced = world.route(&[new.addr]).await.unwrap();
    let short = DrainLimits::from(Duration::from_millis(20));
    assert_eq!(world.proxy.drain(replaced, short).await.left, 1);
    old.open_gate(1);
    assert_eq!(slow.answer().await.body, "old");
}

#[tokio::test]
async fn parked_requests_stay_parked_under_maintenance_and_new_ones_are_answered() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let limits = ParkLimits {
        max_wait: LONG,
        ..ParkLimits::default()
    };
    let parked = world.proxy.park(spec("app", "a.test", &[]), limits).await;
    assert!(parked.unwrap().is_none());
    let mut waiting = world.client().await;
    waiting.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    world.until("it waits", |stats| stats.parked_now == 1).await;
    let id = RouteId::new("app");
    world
        .proxy
        .maintain(&id, closed(Some("later")))
        .await
        .unwrap();
    let answer = world.get("/").await;
    assert_eq!(answer.body, "503 Service Unavailable\nlater\n");
    assert_eq!(world.proxy.stats().parked_now, 1);
    drop(world.route(&[backend.addr]).await);
    assert_eq!(waiting.answer().await.body, "one");
    // The spec of the route has no maintenance.
    assert_eq!(world.get("/").await.body, "one");
}
