//! Bodies of any length, in constant memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vela_proxy::{Park, ParkLimits, ProxyConfig, Router, Timeouts};

use crate::LONG;
use crate::backend::Backend;
use crate::client::{answer, get, next, request, send_all};
use crate::world::{World, saying, spec, until, upstream};

const LARGE: usize = 8 * 1024 * 1024;
/// What may be on its way in the kernel and in the proxy together, and is less than all.
const ON_ITS_WAY: usize = 24 * 1024 * 1024;

fn pattern(length: usize) -> Bytes {
    (0..length).map(|at| b'a' + (at % 23) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_at_once() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let client = world.client().await;
    let body = pattern(LARGE);
    let asking = (0..4).map(|number| {
        let body = body.clone();
        let mut client = crate::client::Client {
            requests: client.requests.clone(),
            connection: tokio::spawn(async { Ok(()) }),
        };
        async move {
            let mut asked = request("POST", "/echo");
            if number % 2 == 0 {
                asked.headers_mut().insert("content-length", LARGE.into());
            }
            let answer = client.ask(asked, Some(body.clone())).await.unwrap();
            assert_eq!(answer.status.as_u16(), 200);
            assert!(answer.body.as_bytes() == body);
        }
    });
    futures::future::join_all(asking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_of_each_kind_are_whole() {
    let world = World::start();
    let mut client = world.client().await;
    let body = pattern(LARGE);
    let text = std::str::from_utf8(&body).unwrap();
    let mut chunked = String::from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let (mut rest, mut size) = (text, 1);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunked.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        (rest, size) = (after, (size * 3) % 200_003);
    }
    chunked.push_str("0\r\n\r\n");
    for response in [
        chunked,
        format!("HTTP/1.1 200 OK\r\n\r\n{text}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n{text}"),
    ] {
        world.route(saying(response).await).await;
        assert!(client.get("/").await.body.as_bytes() == body);
    }
}

/// Waits until it has not grown for a while; gives it.
async fn settled(count: &AtomicUsize) -> usize {
    loop {
        let before = count.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = count.load(Ordering::Relaxed);
        if before == after && after > 0 {
            return after;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_waits_for_a_client_that_does_not_read() {
    let world = World::start();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = upstream(move |_, mut socket| {
        let counted = Arc::clone(&counted);
        async move {
            let socket = socket.get_mut();
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                socket.write_all(&[b'x'; 4096]).await?;
                counted.fetch_add(4096, Ordering::Relaxed);
            }
        }
    });
    world.route(endless.await).await;
    let mut client = world.client().await;
    let (response, mut sending) = client.send(get("/"), true).await;
    let mut body = response.await.unwrap().into_body();
    let stalled = settled(&sent).await;
    assert!(stalled < ON_ITS_WAY, "{stalled}");
    // It goes on when the client does. Others on the connection did not wait.
    while sent.load(Ordering::Relaxed) < 2 * ON_ITS_WAY {
        assert!(next(&mut body).await.is_some());
    }
    sending.send_reset(h2::Reason::CANCEL);
    world.until("the end", |stats| stats.in_flight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_for_an_upstream_that_does_not_read() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut client = world.client().await;
    let (response, mut sending) = client.send(request("POST", "/deaf"), false).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let uploading = tokio::spawn(async move {
        loop {
            if send_all(&mut sending, Bytes::from_static(&[b'x'; 4096]))
                .await
                .is_err()
            {
                return;
            }
            counted.fetch_add(4096, Ordering::Relaxed);
        }
    });
    let stalled = settled(&sent).await;
    assert!(stalled < ON_ITS_WAY, "{stalled}");
    // Others on the connection do not wait.
    let echo = client.ask(request("POST", "/echo"), Some(pattern(100_000)));
    assert_eq!(echo.await.unwrap().body.len(), 100_000);
    drop(response);
    uploading.abort();
    uploading.await.ok();
    world.until("the end", |stats| stats.in_flight == 0).await;
}

/// As many as there may be, with as much of each as there may be, and one more.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_not_taken_hold_up_no_other() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    let limits = ParkLimits {
        max_requests: 1000,
        max_wait: 2 * LONG,
    };
    let mut parked = spec("app", backend.addr);
    parked.upstreams.clear();
    world.proxy.park(parked, limits).await.unwrap();
    let mut other = spec("other", backend.addr);
    other.path = "/echo".parse().unwrap();
    world.proxy.apply(other).await.unwrap();

    let mut client = world.client().await;
    let mut waiting = Vec::new();
    for _ in 0..127 {
        let (response, mut sending) = client.send(request("POST", "/"), false).await;
        let sent = timeout(LONG, send_all(&mut sending, pattern(128 * 1024)));
        sent.await.expect("room").unwrap();
        waiting.push((response, sending));
    }
    let echo = client.ask(request("POST", "/echo"), Some(pattern(LARGE)));
    assert_eq!(echo.await.unwrap().body.len(), LARGE);
}

/// RFC 9113, 8.1: the response counts, and the rest of the body is not wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_may_come_before_the_body_has() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut client = world.client().await;
    // The upstream takes the rest nonetheless.
    let (response, mut sending) = client.send(request("POST", "/early"), false).await;
    sending.send_data(Bytes::from("the begin"), false).unwrap();
    let answered = timeout(LONG, answer(response)).await.unwrap().unwrap();
    assert_eq!(answered.status.as_u16(), 413);
    send_all(&mut sending, pattern(1 << 20)).await.unwrap();
    sending.send_data(Bytes::new(), true).unwrap();
    world.until("the end", |stats| stats.in_flight == 0).await;

    // It does not, and closes: the client is told that nobody wants more.
    let closing = upstream(|_, mut socket| async move {
        socket.read_exact(&mut [0; 9]).await?;
        let refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";
        socket.get_mut().write_all(refusal).await
    });
    world.route(closing.await).await;
    let (response, mut sending) = client.send(request("POST", "/"), false).await;
    sending.send_data(Bytes::from("the begin"), false).unwrap();
    let answered = timeout(LONG, answer(response)).await.unwrap().unwrap();
    assert_eq!(answered.status.as_u16(), 413);
    let all = timeout(LONG, send_all(&mut sending, pattern(LARGE)));
    all.await.unwrap().unwrap_err();
    let told = std::future::poll_fn(|cx| sending.poll_reset(cx)).await;
    assert_eq!(told.unwrap(), h2::Reason::NO_ERROR);

    // As large as it may be, and too large: with a length and without.
    let mut limited = spec("app", backend.addr);
    limited.options.max_body = Some(1000);
    world.proxy.apply(limited).await.unwrap();
    for (length, status) in [(1000, 200), (1001, 413), (LARGE, 413)] {
        for says_length in [true, false] {
            let mut asked = request("POST", "/echo");
            if says_length {
                asked.headers_mut().insert("content-length", length.into());
            }
            let answered = client.ask(asked, Some(pattern(length))).await.unwrap();
            assert_eq!(answered.status.as_u16(), status, "{length} {says_length}");
        }
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let config = ProxyConfig {
        timeouts: Timeouts {
            body_read: Duration::from_millis(100),
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    };
    let world = World::with(config);
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut client = world.client().await;
    let (response, mut sending) = client.send(request("POST", "/echo"), false).await;
    sending.send_data(Bytes::from("half"), false).unwrap();
    assert_eq!(answer(response).await.unwrap().status.as_u16(), 408);
    backend.until_connections(0).await;
    assert_eq!(client.get("/").await.body, "ok");
}

/// A client that takes nothing for too long.
#[tokio::test]
async fn a_response_that_nobody_takes_is_given_up() {
    let config = ProxyConfig {
        timeouts: Timeouts {
            write: Duration::from_millis(100),
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    };
    let world = World::with(config);
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let large = upstream(move |_, mut socket| {
        let counted = Arc::clone(&counted);
        async move {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
            socket.get_mut().write_all(head.as_bytes()).await?;
            let sent = socket.get_mut().write_all(&vec![0; LARGE]).await;
            // Until the proxy has closed.
            let read = socket.read(&mut [0]).await;
            counted.fetch_add(1, Ordering::Relaxed);
            sent.and(read.map(|_| ()))
        }
    });
    world.route(large.await).await;
    let mut client = world.client().await;
    let (response, _sending) = client.send(get("/"), true).await;
    let mut body = response.await.unwrap().into_body();
    until("the end at the upstream", || {
        ended.load(Ordering::Relaxed) == 1
    })
    .await;
    let cut = loop {
        match body.data().await.expect("no clean end") {
            Ok(piece) => body.flow_control().release_capacity(piece.len()).unwrap(),
            Err(cut) => break cut,
        }
    };
    assert_eq!(cut.reason(), Some(h2::Reason::INTERNAL_ERROR));
}
