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

/// Set for a run of this test that ignores signals, as in the background of a shell.
const DEAF: &str = "VELA_SERVICES_DEAF";

#[tokio::test]
async fn they_hear_signals_that_this_program_ignores() {
    if std::env::var_os(DEAF).is_none() {
        let deaf = tokio::process::Command::new("/bin/sh")
            .args(["-c", "trap '' INT HUP QUIT; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "they_hear_signals_that_this_program_ignores"])
            .env(DEAF, "1")
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&deaf.stdout);
        assert!(deaf.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let dir = dir();
    let ignored = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        u64::from_str_radix(bits.unwrap().trim(), 16).unwrap()
    };
    assert_eq!(ignored("self") & 0b111, 0b111);
    let runner = Children::new(dir.path().join("logs"));
    let spec = sleeper(dir.path());
    runner.keep(&spec).await.unwrap();
    let pid = runner.state(&spec.name, 0).await.pid.unwrap();
    assert_eq!(ignored(&pid.to_string()) & 0b111, 0);
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
