//! Probes and execs pass the suite of their trait; the http probe does in `http.rs`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use tokio::net::TcpListener;
use vela_health::test_util::{ScriptedProbe, Step, conformance, exec_conformance};
use vela_health::{ExecProbe, ShellExec, Target, TcpProbe};

async fn nobody() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Target::new(listener.local_addr().unwrap())
}

#[tokio::test]
async fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let up = Target::new(addr);
    conformance((&TcpProbe::new(), up), (&TcpProbe::new(), nobody().await)).await;

    let other_port = TcpProbe::new().port(addr.port());
    conformance(
        (&other_port, nobody().await),
        (&TcpProbe::new(), nobody().await),
    )
    .await;
}

#[tokio::test]
async fn exec() {
    let shell = Arc::new(ShellExec::new());
    let (yes, no) = (
        ExecProbe::new("true", shell.clone()),
        ExecProbe::new("false", shell),
    );
    conformance((&yes, nobody().await), (&no, nobody().await)).await;
}

#[tokio::test]
async fn scripted() {
    let (yes, no) = (
        ScriptedProbe::new([Step::Pass]),
        ScriptedProbe::new([Step::Fail]),
    );
    conformance((&yes, nobody().await), (&no, nobody().await)).await;
}

#[tokio::test]
async fn shell() {
    exec_conformance(&ShellExec::new()).await;
}
