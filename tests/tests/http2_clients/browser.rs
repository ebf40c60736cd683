use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::front::Front;
use crate::{LONG, app};

/// A WebSocket server that nobody here wrote.
async fn echo_server() -> (Child, SocketAddr) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/echo_server.py");
    let mut server = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().expect("the server's port");
    (server, ([127, 0, 0, 1], port.parse().unwrap()).into())
}

/// A page that fetches, posts, leaves a download, listens to events and opens a WebSocket, all over
/// one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "wants Chromium, 300 MB: `make test-browser`"]
async fn a_page_in_chromium_works() {
    let (app, mut results) = app::start().await;
    let (_server, sockets) = echo_server().await;
    let front = Front::start(app).await;
    front.route("/socket", sockets).await;
    let profile = tempfile::tempdir().unwrap();
    let log = profile.path().join("net.log");
    let mut browser = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            // The certificate is the test's own.
            "--ignore-certificate-errors",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--log-net-log={}", log.display()))
        .arg(front.url("/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let seen = timeout(2 * LONG, results.recv()).await;
    let seen: serde_json::Value = serde_json::from_str(&seen.unwrap().unwrap()).unwrap();
    println!("{seen}");
    assert_eq!(
        seen,
        serde_json::json!({
            "many": 100,
            "echo": true,
            "aborted": 200,
            "events": "0 1 2 3 4",
            "socket": "hello large 4002 as you wish",
            "protocols": "h2",
        })
    );
    assert_eq!(front.proxy.stats().upstream_errors, 0);
    browser.kill().await.unwrap();
    // The WebSocket had no connection of its own.
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains(":protocol: websocket"));
}
