use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use vela_tests::{Front, Output, try_get};

use crate::app::{GREETING, LARGE};
use crate::{LONG, app, front};

/// How many connections attack, and for how long, in seconds.
const ATTACKERS: &str = "200";
const SECONDS: &str = "6";

/// Attacks while normal clients ask on, each for all that it wants: none of them fails.
async fn attack(path: &str, mode: &[&str]) {
    let front = front(app::start().await).await;
    let url = format!("http://{}{path}", front.addr());
    let mut attack = Command::new("slowhttptest");
    attack
        .args(mode)
        .args([
            "-c", ATTACKERS, "-r", ATTACKERS, "-l", SECONDS, "-i", "1", "-u", &url,
        ])
        // How long its own normal client waits.
        .args(["-p", "20"])
        .kill_on_drop(true);
    let attack = async move {
        let output = timeout(LONG, attack.output()).await;
        Output::from(output.expect("the attack ends").unwrap()).expect(0)
    };
    let attack = tokio::spawn(attack);
    let mut served = 0;
    let mut most = 0;
    while !attack.is_finished() || served < 20 {
        visit(&front).await;
        served += 2;
        most = most.max(front.stats().connections);
    }
    let output = attack.await.unwrap();
    // It holds its connections, or asks once over each.
    let attackers: u64 = ATTACKERS.parse().unwrap();
    let asked = front.stats().requests - served;
    assert!(
        most >= attackers / 2 || asked >= attackers,
        "no attack: {most} connections, {asked} requests: {output:?}"
    );
    // Its own normal client was served, too.
    let report: Vec<_> = output.stdout.lines().collect();
    let is_available = |line: &&&str| line.contains("service available:") && line.contains("YES");
    assert!(
        report.iter().rev().any(|line| is_available(&line)),
        "{output:?}"
    );
}

async fn visit(front: &Front) {
    let (status, body) = try_get(front.addr(), "127.0.0.1", "/").await.unwrap();
    assert_eq!((status, &body[..]), (200, GREETING));
    let (status, body) = try_get(front.addr(), "127.0.0.1", "/large").await.unwrap();
    assert_eq!((status, body.len()), (200, LARGE));
    // Else it would be a load test.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_harm_nobody() {
    attack("/", &["-H"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_harm_nobody() {
    attack("/echo", &["-B", "-s", "8192", "-x", "10"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ranges_harm_nobody() {
    attack("/large", &["-R", "-a", "5", "-b", "2000"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_harm_nobody() {
    attack(
        "/large",
        &["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"],
    )
    .await;
}
