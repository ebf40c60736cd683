//! Child processes as servers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use vela_services::test_util::runner_conformance;
use vela_services::{Children, Runner, ServerName, ServerSignal, ServerSpec};

/// A directory that every user may enter.
fn dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

fn sleeper(dir: &Path) -> ServerSpec {
    ServerSpec {
        name: ServerName::parse("sleeper").unwrap(),
        program: PathBuf::from("/bin/sleep"),
        args: vec!["1000".into()],
        cwd: dir.to_owned(),
        env: BTreeMap::new(),
        user: None,
        stop_signal: ServerSignal::Terminate,
        stop_grace: Duration::from_secs(10),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_pass_the_suite_of_every_runner() {
    let dir = dir();
    let runner = Children::new(dir.path().join("logs"));
    runner_conformance(&runner, dir.path()).await;

    let log = dir.path().join("logs/conformance-told.log");
    let mode = fs::metadata(log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn they_die_with_their_runner() {
    let dir = dir();
    let runner = Children::new(dir.path().join("logs"));
    let spec = sleeper(dir.path());
    runner.keep(&spec).await.unwrap();
    let pid = runner.state(&spec.name, 0).await.pid.unwrap();
    let process = PathBuf::from(format!("/proc/{pid}"));
    assert!(process.exists());

    drop(runner);
    while process.exists() {
        tokio::task::yield_now().await;
    }
}
