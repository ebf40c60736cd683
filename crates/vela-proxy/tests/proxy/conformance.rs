//! Raw bytes of clients, and what each must come to: the answers, and what the upstream sees.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{Backend, World};
use vela_proxy::{Limits, ProxyConfig, Timeouts};

/// What a client sends on a connection of its own.
struct Case {
    sent: &'static str,
    /// The statuses of all answers. Behind 400 and more of the proxy's own it closes.
    answers: &'static [u16],
    /// The requests that the upstream sees, without what tells it who asked.
    seen: &'static [&'static str],
}

const fn passes(sent: &'static str, seen: &'static [&'static str]) -> Case {
    const OK: &[u16] = &[200; 8];
    Case {
        sent,
        answers: OK.split_at(seen.len()).0,
        seen,
    }
}

const fn refused(sent: &'static str, answers: &'static [u16]) -> Case {
    Case {
        sent,
        answers,
        seen: &[],
    }
}

const CASES: &[Case] = &[
    // What is sound.
    passes(
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"],
    ),
    passes(
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"],
    ),
    passes(
        "GET /a%00/../%2e%2e/b;c?d=e&%zz HTTP/1.1\r\nhOST:A.test.:80\r\nX:\t1 \r\n\r\n",
        &["GET /a%00/../%2e%2e/b;c?d=e&%zz HTTP/1.1\r\nhost: A.test.:80\r\nX:\t1 \r\n\r\n"],
    ),
    passes(
        "FROB / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 003\r\n\r\nabc",
        &["FROB / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 003\r\n\r\nabc"],
    ),
    passes(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: Chunked\r\n\r\n\
         2;a=\"b\"\r\nab\r\n0A\r\n0123456789\r\n0\r\n\r\n",
        &[
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n\
           c\r\nab0123456789\r\n0\r\n\r\n",
        ],
    ),
    passes(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\nX-Sum: 1\r\nContent-Length: 9\r\nHost: b\r\nX_Forwarded_For: 6\r\nTransfer-Encoding: x\r\n\
         X-Request-ID: 6\r\nX_Request_Start: 6\r\nForwarded: for=6\r\nConnection: close\r\n\r\n",
        &[
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
        ],
    ),
    passes(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-A\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
        &["GET / HTTP/1.1\r\nhost: a.test\r\nX-B: 2\r\n\r\n"],
    ),
    passes(
        "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
        &["GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"],
    ),
    passes(
        "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n",
        &["GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"],
    ),
    passes(
        "GET http://A.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n",
        &["GET /x HTTP/1.1\r\nhost: A.test\r\n\r\n"],
    ),
    passes(
        "OPTIONS http://A.test HTTP/1.1\r\nHost: b.test\r\n\r\n",
        &["OPTIONS * HTTP/1.1\r\nhost: A.test\r\n\r\n"],
    ),
    passes(
        "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n"],
    ),
    refused("GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    // Claims, in every spelling, and what is for one hop.
    passes(
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-ID: 6\r\nX_Request_Id: 6\r\nX-Request_Start: 6\r\n\
         X-Real_IP: 6\r\nX_Forwarded-Port: 6\r\nFORWARDED: for=6\r\nX-Kept: 1\r\nKeep-Alive: 6\r\n\
         Proxy-Connection: close\r\nProxy-Authorization: 6\r\nProxy: 6\r\nTE: gzip\r\nUpgrade: x\r\n\r\n",
        &["GET / HTTP/1.1\r\nhost: a.test\r\nX-Kept: 1\r\n\r\n"],
    ),
    // Naming what frames or routes a message takes it away from nobody.
    passes(
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: content-length, host\r\nContent-Length: 1\r\n\r\na",
        &["POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1\r\n\r\na"],
    ),
    passes(
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &["POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    ),
    // Pipelined.
    passes(
        "POST /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n\
         POST /3 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n\
         GET /4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[
            "POST /1 HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nab",
            "GET /2 HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "POST /3 HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n",
            "GET /4 HTTP/1.1\r\nhost: a.test\r\n\r\n",
        ],
    ),
    // CL.TE and TE.CL: the chunks count, the length goes, and nothing behind it is a request.
    passes(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &["POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    ),
    passes(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n\
         1\r\na\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[
            "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        ],
    ),
    // CL.0: a body of a GET is a body.
    passes(
        "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 28\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n",
        &[
            "GET / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 28\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n",
        ],
    ),
    // What a CGI or WSGI server would take for a length or a coding.
    passes(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nContent-Length: 1\r\n\r\na",
        &["POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1\r\n\r\na"],
    ),
    // TE.TE.
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        &[501],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        &[501],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: x\r\nTransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &[501],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nX: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nX: 1\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    // Lengths.
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1, 1\r\n\r\na",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length : 5\r\n\r\nabcde",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\na",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x1\r\n\r\na",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1 1\r\n\r\na",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n\r\na",
        &[400],
    ),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 18446744073709551616\r\n\r\na",
        &[400],
    ),
    // Chunks. The upstream may have been sent the head; the request never ends well.
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;a\0b\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"\n\"\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n1\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000001\r\na",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : 1\r\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n",
        &[400],
    ),
    refused(
        "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
        &[400],
    ),
    // Lines and names.
    refused("GET / HTTP/1.1\nHost: a.test\n\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\r\nX\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\r\n: 1\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\r\nX y: 1\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\r\nX\0: 1\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\r\n\r\n", &[400]),
    refused(
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x7fb\r\n\r\n",
        &[400],
    ),
    refused(
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n\tfolded\r\n\r\n",
        &[400],
    ),
    refused(
        "GET / HTTP/1.1\r\n Host: a.test\r\nHost: a.test\r\n\r\n",
        &[400],
    ),
    // Request lines.
    refused("GET /\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET /\t HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET /a\0b HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET /a\rb HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", &[505]),
    refused("GET / HTTP/3.0\r\nHost: a.test\r\n\r\n", &[505]),
    refused("GET / HTTP/0.9\r\nHost: a.test\r\n\r\n", &[505]),
    refused("GET / HTTP/2\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET / http/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused(" GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505]),
    refused("GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused("GET a HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused(
        "GET //a.test@b.test HTTP/1.1\r\nHost: @a.test\r\n\r\n",
        &[400],
    ),
    refused(
        "GET http://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[400],
    ),
    refused("GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n", &[400]),
    refused(
        "GET http://a.test\\@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[400],
    ),
    // The connection is not the one that the target demands.
    refused(
        "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[421],
    ),
    refused(
        "GET HTTPS://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[421],
    ),
    refused(
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[501],
    ),
    // Hosts.
    refused(
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
        &[400],
    ),
    refused(
        "GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n\r\n",
        &[400],
    ),
    refused("GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n", &[400]),
    refused("GET / HTTP/1.1\r\nX: 1\r\n\r\n", &[400]),
    refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nExpect: x\r\nContent-Length: 1\r\n\r\na",
        &[417],
    ),
    // A tunnel is the upstream's to grant.
    passes(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &[
            "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "GET /2 HTTP/1.1\r\nhost: a.test\r\n\r\n",
        ],
    ),
];

#[tokio::test]
async fn each_case_comes_to_what_it_must() {
    let world = World::start();
    let upstream = Recorder::start().await;
    drop(world.route(&[upstream.addr]).await);
    for case in CASES {
        // However it comes.
        for piece in [usize::MAX, 7] {
            upstream.take();
            let mut client = world.client().await;
            for piece in case.sent.as_bytes().chunks(piece) {
                // The proxy may have refused it by then.
                client.try_send(piece).await;
                tokio::task::yield_now().await;
            }
            for (at, &status) in case.answers.iter().enumerate() {
                let answer = client.answer().await;
                assert_eq!(answer.status, status, "{at} of {:?}: {answer:?}", case.sent);
            }
            let is_refused = case.answers.last().is_some_and(|&status| status >= 400);
            if is_refused {
                assert_eq!(client.rest().await, "", "{:?}", case.sent);
            }
            let seen: Vec<_> = upstream.take();
            let whole: Vec<_> = seen
                .iter()
                .filter(|one| one.is_whole)
                .map(|one| &one.text[..])
                .collect();
            assert_eq!(whole, case.seen, "{:?}", case.sent);
            assert!(
                !seen
                    .iter()
                    .any(|one| one.text.contains("/smuggled HTTP/1.1\r\nh"))
            );
        }
    }
}

/// What is too long for the table: more around the data than data, and trailers without an end.
#[tokio::test]
async fn a_body_is_mostly_data() {
    let world = World::start();
    let upstream = Recorder::start().await;
    drop(world.route(&[upstream.addr]).await);
    let extension = "a".repeat(1000);
    for body in [
        format!("1;{extension}\r\nx\r\n").repeat(30),
        format!("0\r\nX: {}\r\n", extension.repeat(30)),
        format!("0\r\n{}", "X: 1\r\n".repeat(65)),
    ] {
        let end = if body.starts_with('0') {
            "\r\n"
        } else {
            "0\r\n\r\n"
        };
        let head = "POST /cut HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut client = world.client().await;
        client
            .try_send(format!("{head}{body}{end}").as_bytes())
            .await;
        let begin = &body[..20];
        assert_eq!(client.answer().await.status, 400, "{begin:?}");
        assert_eq!(client.rest().await, "", "{begin:?}");
        assert!(!upstream.take().iter().any(|one| one.is_whole), "{begin:?}");
    }
}

/// Those that depend on limits too: each is answered while the upstream has seen no whole request.
#[tokio::test]
async fn each_refusal_has_the_status_that_the_standards_give_it() {
    let host = "Host: a.test\r\n";
    let many = "X: 1\r\n".repeat(9);
    let long = "x".repeat(300);
    for (sent, status) in [
        ("GET / HTTP/1.1\r\nHo st: a.test\r\n\r\n".to_owned(), 400),
        // The rest of the head does not come.
        (format!("GET / HTTP/1.1\r\n{host}"), 408),
        (format!("GET / HTTP/1.1\r\n{host}X: "), 408),
        // Nor that of the body.
        (
            format!("POST /echo HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nabc"),
            408,
        ),
        (
            format!("POST /echo HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n3\r\nab"),
            408,
        ),
        (
            format!("POST /echo HTTP/1.1\r\n{host}Content-Length: 6\r\n\r\nabcdef"),
            413,
        ),
        (
            format!(
                "POST /echo HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
            ),
            413,
        ),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", &long[..100]), 414),
        // Even where the line never ends.
        (format!("GET /{long}"), 414),
        (format!("GET / HTTP/1.1\r\n{host}Expect: x\r\n\r\n"), 417),
        (format!("GET https://a.test/ HTTP/1.1\r\n{host}\r\n"), 421),
        (
            format!("GET / HTTP/1.1\r\n{host}X: {long}{long}\r\n\r\n"),
            431,
        ),
        (format!("GET / HTTP/1.1\r\n{host}{many}\r\n"), 431),
        (format!("CONNECT a.test:80 HTTP/1.1\r\n{host}\r\n"), 501),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            501,
        ),
        (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
    ] {
        // Where nothing is to be late, nothing is, however slow the machine. The begin of a head
        // has no more time than the rest of it, but is not to be late.
        let ample = Duration::from_secs(60);
        let (header_read, body_read) = match (status, sent.starts_with("POST")) {
            (408, false) => (Duration::from_secs(3), ample),
            (408, true) => (ample, Duration::from_millis(50)),
            _ => (ample, ample),
        };
        let world = World::with(ProxyConfig {
            limits: Limits {
                head_bytes: 500,
                headers: 8,
                target_bytes: 100,
                body_bytes: 5,
                ..Limits::default()
            },
            timeouts: Timeouts {
                header_read,
                body_read,
                ..Timeouts::default()
            },
            ..ProxyConfig::default()
        });
        let upstream = Recorder::start().await;
        drop(world.route(&[upstream.addr]).await);
        let mut client = world.client().await;
        client.send(&sent).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{sent:?}: {answer:?}");
        assert_eq!(client.rest().await, "", "{sent:?}");
        assert!(!upstream.take().iter().any(|one| one.is_whole), "{sent:?}");
    }
}

/// From a trusted proxy: the whole head, in the bytes that the upstream gets.
#[tokio::test]
async fn a_trusted_proxy_speaks_for_the_client() {
    let world = World::with(ProxyConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        client_ip_header: Some("CF-Connecting-IP".parse().unwrap()),
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    client
        .send(
            "GET https://a.test:8443/x HTTP/1.1\r\nHost: other.test\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n\
             X-Forwarded-Proto: https\r\nX_Forwarded_Proto: x\r\nX-Request-ID: abc\r\nX_Request_Id: x\r\n\
             X-Request-Start: t=1\r\nX-Real-IP: 6.6.6.6\r\nX-Kept: 1\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.body, "one");
    assert_eq!(
        backend.last_head(),
        "GET /x HTTP/1.1\r\nhost: a.test:8443\r\nX-Forwarded-Proto: https\r\nX-Kept: 1\r\n\
         x-forwarded-for: 6.6.6.6, 192.0.2.1, 127.0.0.1\r\nx-real-ip: 192.0.2.1\r\n\
         x-forwarded-host: a.test:8443\r\nx-forwarded-port: 8443\r\n\
         forwarded: for=6.6.6.6;proto=https;host=\"a.test:8443\", for=192.0.2.1, for=127.0.0.1\r\n\
         x-request-id: abc\r\nx-request-start: t=1\r\n\r\n"
    );
    // The next request is another one's.
    client
        .send(
            "GET / HTTP/1.1\r\nHost: a.test\r\nCF-Connecting-IP: 2001:db8::1\r\n\
             Forwarded: for=192.0.2.7;proto=https\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.body, "one");
    let head = backend.last_head();
    for line in [
        "CF-Connecting-IP: 2001:db8::1",
        "x-real-ip: 2001:db8::1",
        "x-forwarded-proto: https",
        "x-forwarded-port: 443",
        "forwarded: for=192.0.2.7;proto=https, for=127.0.0.1;host=a.test",
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} in {head}"
        );
    }
    assert!(!head.contains("abc") && !head.contains("t=1"), "{head}");
}

/// As a balancer that knows `X-Forwarded-For` alone lets it through.
#[tokio::test]
async fn what_a_client_claims_beside_its_balancer_s_word_goes_no_further() {
    let world = World::with(ProxyConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    // It may know what its balancer will say.
    for claimed in ["127.0.0.1", "192.0.2.1"] {
        let mut client = world.client().await;
        client
            .send(format!(
                "GET /x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.1\r\n\
                 Forwarded: for={claimed};proto=https;host=admin.test\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.body, "one");
        let head = backend.last_head();
        let (begin, _) = head.split_once("x-request-id: ").unwrap();
        assert_eq!(
            begin,
            "GET /x HTTP/1.1\r\nhost: a.test\r\nx-forwarded-for: 192.0.2.1, 127.0.0.1\r\n\
             x-real-ip: 192.0.2.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a.test\r\n\
             x-forwarded-port: 80\r\nforwarded: for=192.0.2.1;proto=http;host=a.test, for=127.0.0.1\r\n"
        );
    }
}

/// An upstream that keeps what it is sent, byte for byte, and reads as strictly as can be.
struct Recorder {
    addr: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

struct Seen {
    text: String,
    /// It came to its end.
    is_whole: bool,
}

impl Recorder {
    async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::default());
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(record(socket, Arc::clone(&all)));
            }
        });
        Recorder { addr, seen }
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn record(mut socket: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut bytes = Vec::new();
    loop {
        while let Some((length, text)) = message(&bytes) {
            drop(bytes.drain(..length));
            seen.lock().unwrap().push(Seen {
                text: without_sender(&text),
                is_whole: true,
            });
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if socket.write_all(answer).await.is_err() {
                return;
            }
        }
        if !matches!(socket.read_buf(&mut bytes).await, Ok(1..)) {
            break;
        }
    }
    if !bytes.is_empty() {
        let text = without_sender(&String::from_utf8_lossy(&bytes));
        seen.lock().unwrap().push(Seen {
            text,
            is_whole: false,
        });
    }
}

/// The first message, when it is whole: its length, and its text with all data in one chunk, since how many there
/// are depends on how the bytes came.
fn message(bytes: &[u8]) -> Option<(usize, String)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let head = text.find("\r\n\r\n")? + 4;
    if !text[..head].contains("\r\ntransfer-encoding: chunked\r\n") {
        let length = text[..head].split("\r\ncontent-length: ").nth(1);
        let body = length.map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse().unwrap()
        });
        return Some((head + body, text.get(..head + body)?.to_owned()));
    }
    let (mut at, mut data) = (head, String::new());
    let last = loop {
        let line = at + text[at..].find("\r\n")?;
        let size = usize::from_str_radix(&text[at..line], 16).unwrap();
        if size == 0 {
            break line + 2;
        }
        data += text.get(line + 2..line + 2 + size)?;
        at = line + 2 + size + 2;
        text.get(..at)?;
    };
    let end = match text[last..].strip_prefix("\r\n") {
        Some(_) => last + 2,
        None => last + text[last..].find("\r\n\r\n")? + 4,
    };
    let chunk = match data.len() {
        0 => data,
        size => format!("{size:x}\r\n{data}\r\n"),
    };
    Some((end, format!("{}{chunk}{}", &text[..head], &text[at..end])))
}

fn without_sender(text: &str) -> String {
    text.split_inclusive("\r\n")
        .filter(|line| !TELL_OF_SENDER.iter().any(|name| line.starts_with(name)))
        .collect()
}

const TELL_OF_SENDER: [&str; 4] = ["x-forwarded-", "x-real-ip: ", "forwarded: ", "x-request-"];
