//! The http probe against servers on real sockets, most of them hostile.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod server;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use vela_health::test_util::conformance;
use vela_health::{Address, HttpProbe, Probe, ProbeError, Target};

use self::server::{Server, until_closed};

fn probe() -> HttpProbe {
    HttpProbe::new("/health").unwrap()
}

async fn fails(probe: &HttpProbe, server: &Server) -> ProbeError {
    let attempt = timeout(Duration::from_secs(20), probe.check(&server.target));
    attempt
        .await
        .expect("the attempt ends")
        .expect_err("the attempt fails")
}

fn chain(error: &ProbeError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn the_request_is_plain_and_complete() {
    let mut server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    probe().check(&server.target).await.unwrap();
    let addr = server.addr;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        server.request().await,
        format!(
            "GET /health HTTP/1.1\r\nhost: {addr}\r\nuser-agent: vela-health/{version}\r\n\
             accept: */*\r\nconnection: close\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn method_host_port_and_status_can_be_given() {
    let mut server = Server::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let elsewhere = Target::new("127.0.0.1:1".parse().unwrap());
    let probe = HttpProbe::new("/ready?deep=1")
        .unwrap()
        .method("HEAD")
        .unwrap()
        .host("my-app.com")
        .unwrap()
        .port(server.addr.port())
        .expect(200..=299);
    probe.check(&elsewhere).await.unwrap();

    let request = server.request().await;
    assert!(
        request.starts_with("HEAD /ready?deep=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nhost: my-app.com\r\n"), "{request}");
}

#[tokio::test]
async fn each_attempt_has_a_connection_of_its_own() {
    let mut server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    for _ in 0..3 {
        probe().check(&server.target).await.unwrap();
    }
    assert_eq!(server.more_requests(), 3);
}

#[tokio::test]
async fn the_status_decides_whatever_becomes_of_the_body() {
    for answer in [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut off",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense",
        "HTTP/1.0 200 OK\r\n\r\nuntil closed",
    ] {
        let server = Server::saying(answer).await;
        probe()
            .check(&server.target)
            .await
            .unwrap_or_else(|error| panic!("{answer}: {error}"));
    }
}

#[tokio::test]
async fn a_wrong_status_comes_with_the_first_line_of_the_body() {
    let server = Server::saying(
        "HTTP/1.1 404 Not Found\r\n\r\n\r\n  no route \x1b[31m`/health`\u{202e}\r\nsecond line\n",
    )
    .await;
    let error = fails(&probe(), &server).await;
    let ProbeError::Status {
        got: 404,
        line: Some(line),
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(line, r"no route \u{1b}[31m`/health`\u{202e}");
    assert!(error.hint().unwrap().contains("health path"));

    let server = Server::saying("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(
        fails(&probe(), &server).await.to_string(),
        "answered 500, expected 200"
    );
}

#[tokio::test]
async fn an_endless_body_is_not_read_to_its_end() {
    let sent = Arc::new(AtomicUsize::new(0));
    let (done, mut closed) = mpsc::unbounded_channel();
    let counter = Arc::clone(&sent);
    let server = Server::new(move |mut stream, _| {
        let (counter, done) = (Arc::clone(&counter), done.clone());
        async move {
            stream.write_all(b"HTTP/1.1 500 Oh\r\n\r\n").await?;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                counter.fetch_add(4096, Ordering::Relaxed);
            }
            done.send(()).ok();
            Ok(())
        }
    })
    .await;

    let error = fails(&probe(), &server).await;
    let ProbeError::Status {
        got: 500,
        line: Some(line),
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(line, &format!("{}…", "x".repeat(200)));
    closed.recv().await.unwrap();
    // What was sent is what was read and what the kernel buffers, far from endless.
    assert!(
        sent.load(Ordering::Relaxed) < 32 * 1024 * 1024,
        "{sent:?} bytes"
    );
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_hide_the_status() {
    let server = Server::new(|mut stream, _| async move {
        stream
            .write_all(b"HTTP/1.1 503 Oh\r\ncontent-length: 99\r\n\r\nwarming up")
            .await?;
        until_closed(&mut stream).await
    })
    .await;
    let error = fails(&probe(), &server).await;
    assert_eq!(error.to_string(), "answered 503, expected 200: warming up");
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let server = Server::new(|mut stream, _| async move {
        stream.set_nodelay(true)?;
        for byte in b"HTTP/1.1 200 OK\r\nx-slow: yes\r\ncontent-length: 2\r\n\r\nok" {
            stream.write_all(&[*byte]).await?;
            // Gives the client, on the same thread, its turn.
            tokio::task::yield_now().await;
        }
        until_closed(&mut stream).await
    })
    .await;
    probe().check(&server.target).await.unwrap();
}

/// Drops an attempt at a server that does `stalling`, once the server has the request; the
/// server must see the connection closed.
async fn dropped_while(stalling: &'static [u8]) {
    let (seen, mut closed) = mpsc::unbounded_channel();
    let mut server = Server::new(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            stream.write_all(stalling).await?;
            let end = until_closed(&mut stream).await;
            seen.send(()).ok();
            end
        }
    })
    .await;

    let probe = probe();
    let target = server.target.clone();
    let mut attempt = probe.check(&target);
    tokio::select! {
        result = &mut attempt => panic!("the server never answers: {result:?}"),
        _ = server.request() => {}
    }
    assert!(closed.try_recv().is_err());
    drop(attempt);
    timeout(Duration::from_secs(10), closed.recv())
        .await
        .expect("the connection is closed");
}

#[tokio::test]
async fn a_dropped_attempt_closes_its_connection() {
    dropped_while(b"").await;
    dropped_while(b"HTTP/1.1 200 OK\r\nx-half: a head").await;
}

#[tokio::test]
async fn a_broken_connection_is_said_to_be_one() {
    // Closed without a word.
    let server = Server::saying("").await;
    let error = fails(&probe(), &server).await;
    assert!(matches!(error, ProbeError::Protocol { .. }), "{error:?}");
    assert!(
        chain(&error).contains("connection closed"),
        "{}",
        chain(&error)
    );

    // In the middle of the head.
    let server = Server::saying("HTTP/1.1 200 OK\r\nx: ").await;
    assert!(matches!(
        fails(&probe(), &server).await,
        ProbeError::Protocol { .. }
    ));

    // Reset: what arrived is never read.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::new(listener.local_addr().unwrap());
    let reset = async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.peek(&mut [0]).await.unwrap();
    };
    let probe = probe();
    let (result, ()) = tokio::join!(probe.check(&target), reset);
    let error = result.unwrap_err();
    assert!(matches!(error, ProbeError::Protocol { .. }), "{error:?}");
    assert!(
        chain(&error).to_lowercase().contains("reset"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    for greeting in [
        "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        "220 mail.example ESMTP\r\n",
        "\x15\x03\x01\x00\x02\x02\x46",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 9999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "<html>hello</html>\n",
    ] {
        let server = Server::saying(greeting).await;
        let error = fails(&probe(), &server).await;
        assert!(
            matches!(error, ProbeError::Protocol { .. }),
            "{greeting:?}: {error:?}"
        );
        assert!(error.hint().unwrap().contains("tcp"));
    }
}

#[tokio::test]
async fn huge_heads_are_refused() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1_000_000));
    let reason = format!("HTTP/1.1 200 {}", "y".repeat(1_000_000));
    for answer in [many, long, reason] {
        let server = Server::saying(answer).await;
        let error = fails(&probe(), &server).await;
        assert!(matches!(error, ProbeError::Protocol { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn it_passes_the_suite_of_every_probe() {
    let up = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let down = Server::saying("HTTP/1.1 503 Oh\r\ncontent-length: 4\r\n\r\ndown").await;
    conformance(
        (&probe(), up.target.clone()),
        (&probe(), down.target.clone()),
    )
    .await;
}

#[tokio::test]
async fn nobody_listening_is_a_failed_connection() {
    let port_of_nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = probe()
        .check(&Target::new(port_of_nobody))
        .await
        .unwrap_err();
    let ProbeError::Connect { addr, source } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*addr, Address::Tcp(port_of_nobody));
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.hint().unwrap().contains("$PORT"));
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test]
async fn redirects_are_followed_when_asked_to() {
    let server = Server::new(|mut stream, head| async move {
        let answer = match head.split(' ').nth(1) {
            Some("/health") => redirect("/a/one"),
            Some("/a/one") => redirect("two?x=1"),
            Some("/a/two?x=1") => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into(),
            _ => "HTTP/1.1 404 Oh\r\ncontent-length: 0\r\n\r\n".into(),
        };
        stream.write_all(answer.as_bytes()).await
    })
    .await;
    probe()
        .follow_redirects(true)
        .check(&server.target)
        .await
        .unwrap();

    let error = fails(&probe(), &server).await;
    assert_eq!(
        error.to_string(),
        "answered 302, expected 200: redirects to /a/one"
    );
    assert!(error.hint().unwrap().contains("follow_redirects"));
    probe()
        .expect(302)
        .follow_redirects(true)
        .check(&server.target)
        .await
        .unwrap();
}

#[tokio::test]
async fn redirects_are_followed_whole_and_shown_in_part() {
    for place in [
        format!("/{}", "x".repeat(300)),
        "/gr\u{f6}\u{df}e".to_owned(),
        "/a\u{202e}b".to_owned(),
    ] {
        let there = place.clone();
        let server = Server::new(move |mut stream, head| {
            let answer = match head.split(' ').nth(1) {
                Some("/health") => redirect(&there),
                Some(path) if path == there => "HTTP/1.1 204 Here\r\n\r\n".into(),
                _ => "HTTP/1.1 404 Oh\r\ncontent-length: 0\r\n\r\n".into(),
            };
            async move { stream.write_all(answer.as_bytes()).await }
        })
        .await;
        let probe = probe().expect(204).follow_redirects(true);
        let checked = probe.check(&server.target).await;
        assert!(checked.is_ok(), "{place}: {checked:?}");
    }
    let long = format!("http://elsewhere/{}", "x".repeat(300));
    let server = Server::saying(redirect(&long)).await;
    let error = fails(&probe().follow_redirects(true), &server).await;
    let shown = format!("`{}…`", &long[..200]);
    assert!(error.to_string().contains(&shown), "{error}");
}

#[tokio::test]
async fn redirect_loops_end() {
    let mut server = Server::saying(redirect("/health")).await;
    let error = fails(&probe().follow_redirects(true), &server).await;
    let ProbeError::TooManyRedirects {
        limit: 10,
        location,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(location, "/health");
    assert_eq!(server.more_requests(), 11);
}

#[tokio::test]
async fn a_probe_is_not_led_away_from_the_instance() {
    let mut elsewhere = Server::saying("HTTP/1.1 200 OK\r\n\r\n").await;
    let addr = elsewhere.addr;
    for location in [
        format!("http://{addr}/"),
        format!("//{addr}/"),
        "https://my-app.com/".into(),
    ] {
        let server = Server::saying(redirect(&location)).await;
        let error = fails(&probe().follow_redirects(true), &server).await;
        assert!(
            matches!(error, ProbeError::RedirectedAway { .. }),
            "{location}: {error:?}"
        );
    }
    assert_eq!(elsewhere.more_requests(), 0);
}
