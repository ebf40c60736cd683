//! Raw bytes of upstreams, and what the client gets of them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use crate::world::{LONG, World};

const PAGE: &str = "HTTP/1.1 502 Bad Gateway\r\n";

/// What an upstream sends before it closes, and what the client of a `GET` gets before its
/// connection ends: all of it, or the begin of a page of the proxy's own.
const CASES: &[(&str, &str)] = &[
    (
        "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX: 1\r\n\r\nok",
        "HTTP/1.1 200 Fine\r\nX: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "HTTP/1.0 404\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 404 \r\ncontent-length: 2\r\nconnection: close\r\n\r\nno",
    ),
    // What stands behind a response is nobody's.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    ),
    (
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\nconnection: close\r\n\r\n",
    ),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    // The length goes where there are chunks.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nDate: d\r\nServer: s\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ),
    // What is cut short stays so.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nok",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1 \r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
    ),
    // What is no response is none.
    ("", PAGE),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", PAGE),
    ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", PAGE),
    ("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", PAGE),
    (
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        PAGE,
    ),
    (
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        PAGE,
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        PAGE,
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", PAGE),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        PAGE,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        PAGE,
    ),
    (
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        PAGE,
    ),
    ("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", PAGE),
    ("HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", PAGE),
    ("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", PAGE),
    (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        PAGE,
    ),
    ("SMTP ready\r\n\r\n", PAGE),
    // What was an interim response stays one.
    (
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n",
    ),
    (
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n",
    ),
];

#[tokio::test]
async fn each_response_comes_to_what_it_must() {
    let world = World::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    for (sent, wanted) in CASES {
        for piece in [usize::MAX, 5] {
            let mut client = world.client().await;
            client
                .send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
                .await;
            let (mut upstream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let mut length = 0;
            while !head[..length].ends_with(b"\r\n\r\n") {
                length += upstream.read(&mut head[length..]).await.unwrap();
            }
            for piece in sent.as_bytes().chunks(piece) {
                // The proxy may have read enough.
                upstream.write_all(piece).await.ok();
                tokio::task::yield_now().await;
            }
            drop(upstream);
            let got = client.rest().await;
            if wanted.ends_with(PAGE) {
                assert!(got.starts_with(wanted), "{sent:?}: {got:?}");
                let heads = |text: &str| text.matches("HTTP/1.1 ").count();
                assert_eq!(heads(&got), heads(wanted), "{sent:?}: {got:?}");
            } else if sent.contains("1 \r\nx") {
                // How much goes out before the fault is seen is chance; the end must not.
                assert!(got.is_empty() || got.starts_with(wanted), "{got:?}");
                assert!(!got.contains("0\r\n\r\n"), "{got:?}");
            } else {
                assert_eq!(joined(&got), *wanted, "{sent:?}");
            }
        }
    }
}

/// It would have the proxy read far more than it passes on.
#[tokio::test]
async fn a_response_that_is_mostly_chunk_extensions_is_cut_off() {
    let world = World::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    assert!(upstream.read(&mut [0; 4096]).await.unwrap() > 0);
    let chunks = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(30);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = format!("{head}{chunks}0\r\n\r\n");
    // The proxy may have read enough.
    upstream.write_all(response.as_bytes()).await.ok();
    let got = client.rest().await;
    assert!(!got.ends_with("0\r\n\r\n"), "{got:?}");
    let cut = "vela_proxy_upstream_errors_total{app=\"app\",kind=\"cut_short\"}";
    world.metrics_when(cut, 1.0).await;
}

/// Chunks may be passed on piece by piece.
fn joined(answer: &str) -> String {
    answer.replace("1\r\no\r\n1\r\nk\r\n", "2\r\nok\r\n")
}

/// Else the proxy would keep what its client does not take: without an end, in memory.
#[tokio::test]
async fn interim_responses_that_nobody_takes_are_not_read() {
    const FLOOD: usize = 64 * 1024 * 1024;
    let world = World::start();
    // As small as they go: what the kernel holds between the three does not count.
    let listening = TcpSocket::new_v4().unwrap();
    listening.set_send_buffer_size(4096).unwrap();
    listening.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = listening.listen(8).unwrap();
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(4096).unwrap();
    let mut client = client.connect(world.addr).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();

    let (mut upstream, _) = listener.accept().await.unwrap();
    // Read, so that closing it is no reset, which would overtake what it has sent.
    assert!(upstream.read(&mut [0; 4096]).await.unwrap() > 0);
    let hints = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n",
        "x".repeat(32_000)
    );
    let mut sent = 0;
    while let Ok(written) = timeout(STALLED, upstream.write_all(hints.as_bytes())).await {
        written.unwrap();
        sent += hints.len();
        assert!(sent < FLOOD, "the proxy reads on");
    }

    // It goes on with a client that reads, which misses nothing.
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.map(|_| got)
    });
    drop(upstream);
    let got = timeout(LONG, reading).await.unwrap().unwrap().unwrap();
    let got = String::from_utf8(got).unwrap();
    let page = got.trim_start_matches(&hints);
    let whole = (got.len() - page.len()) / hints.len();
    assert_eq!(whole, sent / hints.len());
    assert!(page.starts_with(PAGE), "{:.80}", page);
    assert_eq!(page.matches("HTTP/1.1 ").count(), 1);
}

/// How long a write has to wait to be one that waits for a reader.
const STALLED: Duration = Duration::from_secs(1);

/// An old client knows the end of such a response by the end of its connection only.
#[tokio::test]
async fn a_cut_that_no_framing_shows_is_a_reset() {
    let world = World::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(world.route(&[listener.local_addr().unwrap()]).await);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut head = [0; 4096];
    assert!(upstream.read(&mut head).await.unwrap() > 0);
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        .await
        .unwrap();
    client.read_head().await.unwrap();
    assert_eq!(client.read_exactly(2).await, "ok");
    drop(upstream);
    let error = client.socket.read(&mut head).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
