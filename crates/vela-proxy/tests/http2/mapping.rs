//! How requests and responses look on the other side.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use vela_proxy::{ProxyConfig, RouteOptions, Router, Timeouts};

use crate::LONG;
use crate::backend::Backend;
use crate::client::{answer, get, request};
use crate::frames::{block, fields, whole};
use crate::raw::{Raw, Reaction};
use crate::recorder::Recorder;
use crate::world::{World, saying, spec, upstream};

async fn world() -> (World, Backend) {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    (world, backend)
}

#[tokio::test]
async fn a_request_is_one_of_http_1_1() {
    let (world, backend) = world().await;
    let mut client = world.client().await;
    let mut asked = get("/x?y=%2F");
    for (name, value) in [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3")] {
        let value = HeaderValue::from_static(value);
        asked.headers_mut().append(name, value);
    }
    let answer = client.ask(asked, None).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.header("content-length"), Some("2"));
    let head = backend.last_head().to_lowercase();
    let (asked, told) = head.split_once("x-forwarded-for: 127.0.0.1\r\n").unwrap();
    assert_eq!(
        asked,
        "get /x?y=%2f http/1.1\r\nhost: a.test\r\nx: 1\r\ncookie: a=1; b=2; c=3\r\n"
    );
    assert!(told.contains("x-forwarded-proto: https\r\n"), "{head}");
    assert!(told.contains("x-forwarded-host: a.test\r\n"), "{head}");
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    let (world, backend) = world().await;
    let mut client = world.client().await;
    let with_length = |length: &'static str| {
        let mut asked = request("POST", "/echo");
        let length = HeaderValue::from_static(length);
        asked.headers_mut().insert("content-length", length);
        asked
    };
    for (asked, body, framing) in [
        (
            request("POST", "/echo"),
            Some("body"),
            "transfer-encoding: chunked\r\n",
        ),
        (
            request("POST", "/echo"),
            Some(""),
            "transfer-encoding: chunked\r\n",
        ),
        (request("POST", "/echo"), None, ""),
        (with_length("4"), Some("body"), "content-length: 4\r\n"),
        (with_length("0"), Some(""), "content-length: 0\r\n"),
        (with_length("0"), None, "content-length: 0\r\n"),
    ] {
        let answer = client.ask(asked, body.map(Bytes::from)).await.unwrap();
        assert_eq!(answer.body, body.unwrap_or_default());
        let head = backend.last_head();
        for known in ["transfer-encoding: chunked\r\n", "content-length: "] {
            assert_eq!(head.contains(known), framing.starts_with(known), "{head}");
        }
        assert!(head.contains(framing), "{head}");
    }
}

#[tokio::test]
async fn responses_without_a_body() {
    let (world, _backend) = world().await;
    let mut client = world.client().await;
    let answer = client.ask(request("HEAD", "/"), None).await.unwrap();
    assert_eq!(
        (answer.body.as_str(), answer.header("content-length")),
        ("", Some("7"))
    );
    let answer = client.get("/no-content").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""));

    for (method, head) in [
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 9\r\n\r\n",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\netag: x\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\netag: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ] {
        world.route(saying(head).await).await;
        let answer = client.ask(request(method, "/"), None).await.unwrap();
        assert_eq!(
            (answer.body.as_str(), answer.header("etag")),
            ("", Some("x")),
            "{head}"
        );
        assert_eq!(answer.header("transfer-encoding"), None);
    }
}

#[tokio::test]
async fn fields_of_one_hop_stay_there() {
    let (world, _backend) = world().await;
    let mut client = world.client().await;
    let answer = client.get("/hop").await;
    let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "server", "x-kept"]);
    let answer = client.get("/upgrade-required").await;
    assert_eq!(answer.status.as_u16(), 426);
    assert_eq!(answer.header("upgrade"), None);
    // Obsolete text in values is not this proxy's to judge.
    world
        .route(
            saying(
                b"HTTP/1.1 200 OK\r\nX-Latin: \xe9t\xe9\r\nX-Empty:\r\ncontent-length: 0\r\n\r\n",
            )
            .await,
        )
        .await;
    let answer = client.get("/").await;
    assert_eq!(answer.headers["x-latin"].as_bytes(), b"\xe9t\xe9");
    assert_eq!(answer.header("x-empty"), Some(""));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let (world, backend) = world().await;
    let mut client = world.client().await;
    let (response, mut sending) = client.send(request("POST", "/echo"), false).await;
    sending.send_data(Bytes::from("body"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("4"));
    trailers.insert("host", HeaderValue::from_static("b.test"));
    sending.send_trailers(trailers).unwrap();
    assert_eq!(answer(response).await.unwrap().body, "body");
    let head = backend.last_head();
    assert!(head.ends_with("\r\n\r\nx-sum: 4\r\n"), "{head}");

    let mut asked = get("/trailers");
    asked
        .headers_mut()
        .insert("te", HeaderValue::from_static("trailers"));
    let answer = client.ask(asked, None).await.unwrap();
    assert_eq!(
        (answer.body.as_str(), answer.header("trailer")),
        ("ok", Some("x-sum"))
    );
    assert_eq!(answer.trailers.unwrap()["x-sum"], "42");
    assert!(backend.last_head().contains("te: trailers\r\n"));
    // Who does not say that it takes them gets none.
    assert_eq!(client.get("/trailers").await.trailers, None);
}

#[tokio::test]
async fn interim_responses_pass() {
    let (world, backend) = world().await;
    let mut client = world.client().await;
    let mut asked = request("POST", "/echo");
    asked
        .headers_mut()
        .insert("expect", HeaderValue::from_static("100-continue"));
    let (mut response, mut sending) = client.send(asked, false).await;
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    assert_eq!(interim.unwrap().unwrap().status().as_u16(), 100);
    sending.send_data(Bytes::from("body"), true).unwrap();
    assert_eq!(answer(response).await.unwrap().body, "body");
    assert!(backend.last_head().contains("expect: 100-continue\r\n"));

    let hinting = saying(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    world.route(hinting.await).await;
    let (mut response, _) = client.send(get("/"), true).await;
    for link in ["</a>", "</b>"] {
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let interim = interim.unwrap().unwrap();
        assert_eq!(
            (interim.status().as_u16(), &interim.headers()["link"]),
            (103, &HeaderValue::from_static(link))
        );
    }
    assert_eq!(answer(response).await.unwrap().body, "ok");
}

/// By what it answers instead of asking for it.
#[tokio::test]
async fn an_app_refuses_a_body_that_it_has_not_seen() {
    let world = World::start();
    let refusing = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
    world.route(saying(refusing).await).await;
    let mut client = world.client().await;
    for _ in 0..2 {
        let mut asked = request("POST", "/");
        let expected = HeaderValue::from_static("100-continue");
        asked.headers_mut().insert("expect", expected);
        let (mut response, mut sending) = client.send(asked, false).await;
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert!(interim.is_none(), "{interim:?}");
        let answer = answer(response).await.unwrap();
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::PAYLOAD_TOO_LARGE, "no")
        );
        // The stream ends with it, and the others do not.
        let ended = std::future::poll_fn(|cx| sending.poll_reset(cx)).await;
        assert_eq!(ended.unwrap(), h2::Reason::NO_ERROR);
    }
}

/// RFC 9113, 8.3.1.
#[tokio::test]
async fn the_authority_is_the_host() {
    let world = World::start();
    let recorder = Recorder::start().await;
    world.route(recorder.addr).await;
    let common = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    for (more, wanted) in [
        (
            &[(":authority", "A.test:8443")][..],
            Some("host: A.test:8443\r\n"),
        ),
        (&[("host", "a.test")], Some("host: a.test\r\n")),
        (
            &[(":authority", "a.test"), ("host", "A.TEST")],
            Some("host: a.test\r\n"),
        ),
        (&[(":authority", "a.test"), ("host", "b.test")], None),
        (
            &[
                (":authority", "a.test"),
                ("host", "a.test"),
                ("host", "a.test"),
            ],
            None,
        ),
        (&[("host", "a.test"), ("host", "b.test")], None),
    ] {
        let mut raw = Raw::connect(&world.door).await;
        raw.send(&whole(1, &block(&[&common, more].concat()))).await;
        let reaction = raw.reaction(1).await;
        let heads = recorder.take();
        match wanted {
            Some(line) => {
                assert_eq!(reaction, Reaction::Status(200), "{more:?}");
                assert_eq!(heads.len(), 1);
                assert!(
                    heads[0].starts_with(&format!("GET / HTTP/1.1\r\n{line}")),
                    "{heads:?}"
                );
                assert_eq!(heads[0].matches("\r\nhost:").count(), 1, "{heads:?}");
            }
            None => {
                assert_eq!(reaction, Reaction::Reset(1), "{more:?}");
                assert!(heads.is_empty(), "{heads:?}");
            }
        }
    }
    let mut raw = Raw::connect(&world.door).await;
    raw.send(&whole(1, &fields("OPTIONS", "*", &[]))).await;
    assert_eq!(raw.reaction(1).await, Reaction::Status(200));
    assert!(recorder.take()[0].starts_with("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n"));
}

#[tokio::test]
async fn the_proxys_own_pages() {
    let config = ProxyConfig {
        timeouts: Timeouts {
            replacement: Duration::ZERO,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    };
    let world = World::with(config);
    let mut client = world.client().await;
    // With a body that nobody takes.
    let body = || Some(Bytes::from("body"));
    let post = || request("POST", "/deaf");
    assert_eq!(
        client.ask(post(), body()).await.unwrap().status.as_u16(),
        404
    );

    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    for (path, status) in [
        ("/deaf", 504),
        ("/bye", 502),
        ("/garbage", 502),
        ("/gzip-te", 502),
        ("/unasked-101", 502),
    ] {
        let mut route = spec("app", backend.addr);
        // Those that answer have all the time for it.
        route.options.response_timeout = (status == 504).then_some(Duration::from_millis(50));
        world.proxy.apply(route).await.unwrap();
        let answer = client.ask(request("GET", path), None).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(answer.body.starts_with(&format!("{status} ")), "{answer:?}");
        assert_eq!(answer.header("connection"), None);
        assert!(answer.header("date").is_some(), "{answer:?}");
        let answer = client.ask(request("HEAD", path), None).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_str()),
            (status, ""),
            "{path}"
        );
    }
    let mut refused = request("HEAD", "/");
    refused
        .headers_mut()
        .insert("expect", HeaderValue::from_static("more"));
    let answer = client.ask(refused, None).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body), (417, ""));
    backend.kill().await;
    assert_eq!(
        client.ask(post(), body()).await.unwrap().status.as_u16(),
        502
    );

    let mut parked = spec("app", ([127, 0, 0, 1], 1).into());
    parked.upstreams.clear();
    world.proxy.apply(parked).await.unwrap();
    let answer = client.ask(post(), body()).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after")),
        (503, Some("5"))
    );

    let mut moved = spec("app", ([127, 0, 0, 1], 1).into());
    moved.options = RouteOptions {
        canonical: Some("www.a.test".parse().unwrap()),
        ..RouteOptions::default()
    };
    world.proxy.apply(moved).await.unwrap();
    let answer = client.ask(post(), body()).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (308, Some("https://www.a.test/deaf"))
    );
    assert!(!client.connection.is_finished(), "one connection for all");
}

/// What is wrong in HTTP/1.1 too is answered as there.
#[tokio::test]
async fn heads_that_are_too_much() {
    let (world, _backend) = world().await;
    let mut client = world.client().await;
    let long = "x".repeat(17 * 1024);
    assert_eq!(client.get(&format!("/{long}")).await.status.as_u16(), 414);
    let mut many = Request::get("https://a.test/");
    for number in 0..100 {
        many = many.header(format!("x-{number}"), "1");
    }
    let answer = client.ask(many.body(()).unwrap(), None).await.unwrap();
    assert_eq!(answer.status.as_u16(), 431);
    let answer = client.ask(request("CONNECT", ""), None).await;
    assert_eq!(answer.unwrap().status.as_u16(), 501);
    assert_eq!(client.get("/").await.body, "ok");
}

/// How an upstream ends its response, and what the client is to think of it.
#[tokio::test]
async fn a_response_that_is_cut_short_does_not_look_whole() {
    let (world, _backend) = world().await;
    let mut client = world.client().await;
    assert_eq!(client.get("/until-close").await.body, "to the end");
    for path in ["/cut", "/cut-chunked"] {
        let cut = client.ask(get(path), None).await.unwrap_err();
        assert_eq!(cut.reason(), Some(h2::Reason::INTERNAL_ERROR), "{path}");
    }
    // And one that is reset where only its end tells the end.
    let resetting = upstream(|_, socket| async move {
        let mut socket = socket.into_inner();
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nto the").await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))
    });
    world.route(resetting.await).await;
    let cut = client.ask(get("/"), None).await.unwrap_err();
    assert_eq!(cut.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert!(!client.connection.is_finished());
}

/// The app sees that the connection ends.
#[tokio::test]
async fn a_client_that_leaves_is_not_worked_for() {
    let world = World::start();
    let (told, mut seen) = mpsc::unbounded_channel();
    // Says by how the path begins, and that it was left.
    let app = upstream(move |head, mut socket| {
        let told = told.clone();
        async move {
            told.send("asked").unwrap();
            if head.contains(" /begun ") {
                let begin = b"HTTP/1.1 200 OK\r\n\r\nthe begin";
                socket.get_mut().write_all(begin).await?;
            }
            socket.read_to_end(&mut Vec::new()).await.ok();
            told.send("left").unwrap();
            Ok(())
        }
    });
    world.route(app.await).await;
    let mut next = async || timeout(LONG, seen.recv()).await.unwrap().unwrap();
    let mut client = world.client().await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/begun"),
        ("POST", "/"),
        ("POST", "/begun"),
    ] {
        let (response, mut sending) = client.send(request(method, path), method == "GET").await;
        if method == "POST" {
            sending.send_data(Bytes::from("half"), false).unwrap();
        }
        assert_eq!(next().await, "asked");
        sending.send_reset(h2::Reason::CANCEL);
        drop(response);
        assert_eq!(next().await, "left");
    }
    // And all at once.
    let mut streams = Vec::new();
    for _ in 0..9 {
        streams.push(client.send(get("/"), true).await);
        assert_eq!(next().await, "asked");
    }
    client.connection.abort();
    for _ in 0..9 {
        assert_eq!(next().await, "left");
    }
    world
        .until("nothing in flight", |stats| stats.in_flight == 0)
        .await;
    assert_eq!(world.serving.shutdown(LONG).await.left, 0);
}
