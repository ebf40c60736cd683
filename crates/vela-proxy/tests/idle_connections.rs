//! What connections cost that wait for their next request. The proxy is in a process of its own, whose memory is nothing
//! else's.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vela_proxy::{Proxy, ProxyConfig, RouteSpec, Router, Timeouts, Upstream};

const UPSTREAM: &str = "VELA_PROXY_TEST_IDLE_UPSTREAM";

/// Fewer files than nearly every machine allows.
const MANY: usize = 3000;
/// So that 10,000 take 100 MiB.
const LIMIT: usize = 10 * 1024;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Filler: 0123456789abcdef\r\n\r\n";
const BODY: [u8; 1024] = [b'x'; 1024];

/// Run again by the test below.
#[tokio::test]
async fn child() {
    let Ok(upstream) = std::env::var(UPSTREAM) else {
        return;
    };
    raise_file_limit();
    let proxy = Proxy::new(ProxyConfig {
        workers: NonZeroUsize::new(2).unwrap(),
        timeouts: Timeouts {
            // However slow the machine is.
            keep_alive: Duration::from_secs(3600),
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    });
    let upstream = Upstream::new(upstream.parse::<SocketAddr>().unwrap());
    let route = RouteSpec::new("app", vec!["a.test".parse().unwrap()], vec![upstream]);
    drop(proxy.apply(route).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let _serving = proxy.serve([listener]).unwrap();
    println!("listening on {addr}");
    std::future::pending::<()>().await;
}

#[test]
fn an_idle_connection_takes_little_memory() {
    raise_file_limit();
    let mut proxy = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(UPSTREAM, start_app().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .map(Ending)
        .unwrap();
    let said = BufReader::new(proxy.0.stdout.take().unwrap()).lines();
    let addr = said
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("listening on ")?.1.parse().unwrap()));
    let addr: SocketAddr = addr.expect("an address");

    // What it needs anyway it has after some.
    let first: Vec<_> = (0..100).map(|_| served(addr)).collect();
    let before = resident(proxy.0.id());
    let idle: Vec<_> = (0..MANY).map(|_| served(addr)).collect();
    let each = resident(proxy.0.id()).saturating_sub(before) / MANY;
    for mut socket in first.into_iter().chain(idle) {
        socket.set_nonblocking(true).unwrap();
        let read = socket.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::WouldBlock), "it is closed");
    }
    // None at all would mean that it is the measuring that is wrong.
    assert!((1..LIMIT).contains(&each), "{each} bytes a connection");
}

/// A connection that has had one request, and its answer.
fn served(addr: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.write_all(REQUEST).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(&BODY) {
        let mut part = [0; 4096];
        let length = socket.read(&mut part).unwrap();
        assert!(length > 0, "{:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
    }
    socket
}

/// Answers each request on each of its connections.
fn start_app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut writing = socket.unwrap();
            let lines = BufReader::new(writing.try_clone().unwrap()).lines();
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    if line.is_empty() {
                        let head =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY.len());
                        let answer = [head.as_bytes(), &BODY].concat();
                        writing.write_all(&answer).unwrap();
                    }
                }
            });
        }
    });
    addr
}

/// The memory of a process, in bytes.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<usize>().unwrap() * 1024
}

fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
