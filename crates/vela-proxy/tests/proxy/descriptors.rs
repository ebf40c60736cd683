//! A proxy that has run out of file descriptors goes on when some are free again.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::world::{Backend, Client, World, spec};
use vela_proxy::Router;

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
    let limit = rustix::process::Rlimit {
        current: Some(40),
        maximum: Some(40),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
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
