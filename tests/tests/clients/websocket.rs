use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{front, run};

const PYTHON: &str = "/usr/bin/python3";
const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_carries_all_that_the_protocol_has() {
    let mut server = Command::new(PYTHON)
        .arg(format!("{DIR}/echo_server.py"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().expect("the server's port");
    let app = ([127, 0, 0, 1], port.parse().unwrap()).into();
    let front = front(app).await;
    let client = format!("{DIR}/echo_client.py");
    let url = format!("ws://{}/", front.addr());
    let output = run(PYTHON, &[&client, &url]).await.expect(0);
    let done: Vec<_> = output.stdout.lines().collect();
    let wanted = [
        "text",
        "binary",
        "fragments",
        "ping",
        "client closes",
        "server closes",
        "many",
    ];
    assert_eq!(done, wanted);
    assert_eq!(front.stats().upstream_errors, 0);
}
