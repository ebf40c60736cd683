//! A proxy that has run out of file descriptors goes on when some are free again, and one that has
//! no memory for its threads does not start.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};

use crate::world::{Backend, Client, LONG, World, spec};
use rustix::process::{Resource, Rlimit, setrlimit};
use vela_proxy::{Proxy, ProxyConfig, Router};

const UPSTREAM: &str = "VELA_PROXY_TEST_UPSTREAM";

/// Run again by the test below as a process of its own: the limit is the process's.
#[tokio::test]
async fn child() {
    let Ok(upstream) = std::env::var(UPSTREAM) else {
        return;
    };
    let upstream: SocketAddr = upstream.parse().unwrap();
    let world = World::start();
    drop(
        world
            .proxy
            .apply(spec("app", "a.test", &[upstream]))
            .await
            .unwrap(),
    );
    limit(Resource::Nofile, 40);
    println!("listening on {}", world.addr);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn the_accept_loop_outlives_a_shortage() {
    let backend = Backend::start("one").await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "descriptors::child", "--nocapture"])
        .env(UPSTREAM, backend.addr.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let addr: SocketAddr = BufReader::new(child.stdout.take().unwrap())
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
    let mut first = Client::connect(addr).await;
    assert_eq!(first.get("/").await.status, 200);

    // More than it has descriptors for: the kernel's queue takes the rest.
    let mut crowd = Vec::new();
    for _ in 0..80 {
        crowd.push(Client::connect(addr).await);
    }
    // The connection that it had goes on being served.
    assert_eq!(first.get("/").await.status, 200);
    let mut last = crowd.pop().unwrap();
    last.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), last.read_head());
    assert!(
        early.await.is_err(),
        "there were descriptors for all: the test shows nothing"
    );
    drop(crowd);
    assert_eq!(last.answer().await.status, 200);
    assert_eq!(Client::connect(addr).await.get("/").await.status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
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
