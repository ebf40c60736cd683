use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use vela_proxy::{Limits, ProxyConfig, Timeouts};
use vela_tests::{Front, try_get};

use crate::app::{self, GREETING, LARGE};

/// How many connections attack, and how many the proxy has at one time: who waits for one needs the others to be cut. Not
/// more, since the kernel buffers megabytes for each that reads slowly, and slows all others down when it has too many.
const ATTACKERS: u64 = 80;
const CONNECTIONS: usize = 60;

/// What the proxy waits for clients. Long enough for those that do nothing wrong, on a machine that stalls.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the attack would last.
const FULL: Duration = Duration::from_secs(120);

/// Attacks while normal clients ask on, each for all that it wants: none of them fails, and long before the attack would
/// end by itself, none of its connections is left.
async fn attack(path: &str, mode: &[&str]) -> (Front, Child) {
    let config = ProxyConfig {
        timeouts: Timeouts {
            header_read: PATIENCE,
            keep_alive: PATIENCE,
            body_read: PATIENCE,
            write: PATIENCE,
            ..Timeouts::default()
        },
        limits: Limits {
            connections: CONNECTIONS,
            ..Limits::default()
        },
        ..ProxyConfig::default()
    };
    let front = Front::start(config, &["127.0.0.1"], app::start().await).await;
    let url = format!("http://{}{path}", front.addr());
    let (attackers, seconds) = (ATTACKERS.to_string(), FULL.as_secs().to_string());
    let mut attack = Command::new("slowhttptest")
        .args(mode)
        .args([
            "-c", &attackers, "-r", &attackers, "-l", &seconds, "-u", &url,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let mut visits = 0;
    // Each connection has been there, and none is there any more.
    while front.accepted() < ATTACKERS + visits || front.stats().connections > 0 {
        visit(&front).await;
        visits += 2;
    }
    // With none left, it may have ended.
    let has_ended = attack.try_wait().unwrap();
    assert!(
        begun.elapsed() < FULL * 3 / 4,
        "nobody is cut: {has_ended:?}, {visits} visits, {:?}",
        front.stats()
    );
    (front, attack)
}

async fn visit(front: &Front) {
    let (status, body) = try_get(front.addr(), "127.0.0.1", "/").await.unwrap();
    assert_eq!((status, &body[..]), (200, GREETING));
    let (status, body) = try_get(front.addr(), "127.0.0.1", "/large").await.unwrap();
    assert_eq!((status, body.len()), (200, LARGE));
    // Else it would be a load test.
    sleep(Duration::from_millis(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_are_cut_and_harm_nobody() {
    // A line each second.
    attack("/", &["-H", "-i", "1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_are_cut_and_harm_nobody() {
    // A piece every 20 seconds: the limit is for each.
    attack("/echo", &["-B", "-i", "20", "-s", "8192", "-x", "10"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_are_cut_and_harm_nobody() {
    // Some bytes every 20 seconds.
    let mode = ["-X", "-w", "512", "-y", "1024", "-n", "20", "-z", "32"];
    attack("/large", &mode).await;
}

/// There is nothing slow about them: nothing is cut. The app gets each once, whatever it asks for, and its answers pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ranges_are_one_request_and_harm_nobody() {
    let (front, mut attack) = attack("/large", &["-R", "-a", "5", "-b", "2000"]).await;
    // Some may have come since: with the last answer it ends.
    let ended = timeout(FULL, attack.wait()).await;
    ended.expect("an end").unwrap();
    let of = |class: &str, method: &str| {
        front.metric(&format!(
            "vela_proxy_requests_total{{app=\"app\",method=\"{method}\",class=\"{class}\"}}"
        ))
    };
    assert_eq!(of("2xx", "HEAD"), ATTACKERS);
    let stats = front.stats();
    assert_eq!(of("2xx", "GET") + ATTACKERS, stats.requests, "{stats:?}");
    assert_eq!((stats.retries, stats.upstream_errors), (0, 0), "{stats:?}");
}
