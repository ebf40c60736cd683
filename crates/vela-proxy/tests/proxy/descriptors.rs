//! A proxy that has run out of file descriptors goes on when some are free again, and makes some
//! free; one that has no memory for its threads does not start.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::{Backend, Client, LONG, World, spec};
use rustix::process::{Resource, Rlimit, setrlimit};
use vela_proxy::{Limits, Proxy, ProxyConfig, Router, Timeouts};

const UPSTREAM: &str = "VELA_PROXY_TEST_UPSTREAM";

/// When it has how many.
const LIMIT: &str = "VELA_PROXY_TEST_LIMIT";

/// Run again by the tests below as a process of its own: the limit is the process's.
#[tokio::test]
async fn child() {
    let (Ok(upstream), Ok(most)) = (std::env::var(UPSTREAM), std::env::var(LIMIT)) else {
        return;
    };
    let upstream: SocketAddr = upstream.parse().unwrap();
    let (when, most) = most.rsplit_once(' ').unwrap();
    let most = most.parse().unwrap();
    if when == "before" {
        limit(Resource::Nofile, most);
    }
    let world = World::with(ProxyConfig {
        timeouts: Timeouts {
            header_read: NEVER,
            keep_alive: NEVER,
            upstream_idle: NEVER,
            ..Timeouts::default()
        },
        limits: Limits {
            // What one worker keeps the other one lacks.
            upstream_idle: if when == "before" { 0 } else { 1 },
            ..Limits::default()
        },
        ..ProxyConfig::default()
    });
    drop(
        world
            .proxy
            .apply(spec("app", "a.test", &[upstream]))
            .await
            .unwrap(),
    );
    match when {
        "after" => limit(Resource::Nofile, most),
        "but for" => limit(Resource::Nofile, with_room_for(most)),
        _ => {}
    }
    println!("listening on {}", world.addr);
    std::future::pending::<()>().await;
}

/// The limit by which so many more can be opened.
fn with_room_for(more: u64) -> u64 {
    let is_free = |one: &u64| std::fs::symlink_metadata(format!("/proc/self/fd/{one}")).is_err();
    let last = (0..)
        .filter(is_free)
        .nth(usize::try_from(more).unwrap() - 1);
    last.unwrap() + 1
}

/// No connection ends by itself.
const NEVER: Duration = Duration::from_secs(3600);

struct Running(Child, SocketAddr);

impl Running {
    /// It is limited `before` it serves or `after` that began, or `but for` so many more than it
    /// has by then.
    fn start(upstream: SocketAddr, when: &str, most: u64) -> Running {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "descriptors::child", "--nocapture"])
            .env(UPSTREAM, upstream.to_string())
            .env(LIMIT, format!("{when} {most}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let addr = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .find_map(|line| {
                Some(
                    line.unwrap()
                        .split_once("listening on ")?
                        .1
                        .parse()
                        .unwrap(),
                )
            })
            .unwrap();
        Running(child, addr)
    }

    async fn client(&self) -> Client {
        Client::connect(self.1).await
    }

    /// More than it has descriptors for, which are not idle: the kernel's queue has the rest.
    async fn crowd(&self) -> Vec<Client> {
        let mut crowd = Vec::new();
        for _ in 0..80 {
            let mut client = self.client().await;
            client.send("GET / HTTP/1.1\r\n").await;
            crowd.push(client);
        }
        crowd
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn the_accept_loop_outlives_a_shortage() {
    let backend = Backend::start("one").await;
    let child = Running::start(backend.addr, "after", 40);
    let mut first = child.client().await;
    assert_eq!(first.get("/").await.status, 200);
    first.send("GET / HTTP/1.1\r\n").await;

    let mut crowd = child.crowd().await;
    // The connection that it had goes on being served.
    first.send("Host: a.test\r\n\r\n").await;
    assert_eq!(first.answer().await.status, 200);
    let mut last = crowd.pop().unwrap();
    last.send("Host: a.test\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(300), last.read_head());
    assert!(
        early.await.is_err(),
        "there were descriptors for all: the test shows nothing"
    );
    drop(crowd);
    assert_eq!(last.answer().await.status, 200);
    assert_eq!(child.client().await.get("/").await.status, 200);
}

#[tokio::test]
async fn idle_connections_end_when_there_is_a_shortage() {
    let backend = Backend::start("one").await;
    let child = Running::start(backend.addr, "after", 40);
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(child.client().await);
    }
    assert_eq!(child.client().await.get("/").await.status, 200);
    assert_eq!(crowd.remove(0).rest().await, "");
}

/// It is not the app's fault.
#[tokio::test]
async fn a_shortage_is_told_from_an_app_that_refuses() {
    let backend = Backend::start("one").await;
    let child = Running::start(backend.addr, "but for", 1);
    let mut client = child.client().await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("file descriptor"), "{}", answer.body);
    assert_eq!(backend.accepted_connections(), 0);
}

#[tokio::test]
async fn no_more_connections_are_served_than_there_are_descriptors_for() {
    let backend = Backend::start("one").await;
    let child = Running::start(backend.addr, "before", 128);
    let mut crowd = Vec::new();
    for _ in 0..80 {
        let mut client = child.client().await;
        client
            .send("GET /slow HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            .await;
        crowd.push(client);
    }
    // So many of them come at once, and the others after them.
    backend.until_requests(48).await;
    backend.open_gate(crowd.len());
    for mut client in crowd {
        assert_eq!(client.answer().await.status, 200);
    }
}

fn limit(resource: Resource, most: u64) {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit).unwrap();
}

const STACK: &str = "RUST_MIN_STACK";

/// Run again by the test below, with large stacks, so that what is left of the memory when there
/// is none for another is enough for everything else.
#[test]
fn child_without_room_for_its_threads() {
    let Ok(stack) = std::env::var(STACK) else {
        return;
    };
    let stack: u64 = stack.parse().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut words = status.split_whitespace();
    let size = words.by_ref().find(|word| *word == "VmSize:");
    let size: u64 = size.and_then(|_| words.next()).unwrap().parse().unwrap();
    let proxy = Proxy::new(ProxyConfig {
        workers: NonZeroUsize::new(64).unwrap(),
        ..ProxyConfig::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    limit(Resource::As, size * 1024 + 8 * stack);
    proxy.serve([listener]).unwrap_err();
    // Those that were started serve no longer.
    let begun = std::time::Instant::now();
    while TcpStream::connect(addr).is_ok() {
        assert!(begun.elapsed() < LONG);
        std::thread::yield_now();
    }
    println!("nobody listens");
}

#[test]
fn a_start_that_fails_leaves_nothing_running() {
    let name = "descriptors::child_without_room_for_its_threads";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(STACK, (512u64 << 20).to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nobody listens"), "{said}{error}");
}
