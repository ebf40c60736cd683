//! Servers under a supervisor: what every runner must do, and what only one that outlives its program can.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vela_deploy::ServiceRunner;
use vela_services::test_util::runner_conformance;
use vela_services::{Runner, ServerName, ServerSignal, ServerSpec, ServerState};
use vela_supervisor::{InProcess, Stop, Supervisor};

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

fn server(dir: &Path, script: &str) -> ServerSpec {
    ServerSpec {
        name: ServerName::parse("little").unwrap(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        cwd: dir.to_owned(),
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        user: None,
        stop_signal: ServerSignal::Terminate,
        stop_grace: Duration::from_secs(5),
    }
}

async fn until(
    runner: &ServiceRunner,
    spec: &ServerSpec,
    wanted: impl Fn(&ServerState) -> bool,
) -> ServerState {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let state = runner.state(&spec.name, 5).await;
        if wanted(&state) {
            return state;
        }
        assert!(Instant::now() < deadline, "{state:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_runner_must_do() {
    let (services, cwd) = (dir(), dir());
    let runner = ServiceRunner::new(Arc::new(InProcess::new()), services.path());
    runner_conformance(&runner, cwd.path()).await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(services.path()), 0o711);
    assert_eq!(mode(&services.path().join("logs")), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outlives_its_runner_and_is_adopted_by_the_next() {
    let services = dir();
    let supervisor = Arc::new(InProcess::new());
    let runner = || ServiceRunner::new(supervisor.clone(), services.path());
    let spec = server(services.path(), "echo up; exec sleep 1000");

    let first = runner();
    first.keep(&spec).await.unwrap();
    let pid = until(&first, &spec, |state| !state.log.is_empty())
        .await
        .pid;
    drop(first);

    // It is known before anybody has asked for it, and left as it is.
    let second = runner();
    let adopted = second.state(&spec.name, 5).await;
    assert_eq!(
        (adopted.pid, &adopted.log[..]),
        (pid, &["up".to_owned()][..])
    );
    second.keep(&spec).await.unwrap();
    assert_eq!(second.state(&spec.name, 0).await.pid, pid);
    let all = supervisor.list().await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].labels["owner"], "service");
    assert_eq!(all[0].labels["server"], "little");

    // From now on it is kept like one that was started here.
    supervisor.stop(&all[0].id, &Stop::now()).await.unwrap();
    let again = until(&second, &spec, |state| state.restarts == 1).await;
    assert!(again.pid.is_some() && again.pid != pid);
    let end = again.last_exit.unwrap();
    assert!(end.contains("KILL"), "{end}");

    drop(second);
    let third = runner();
    third.stop(&spec.name).await.unwrap();
    assert_eq!(supervisor.list().await.unwrap(), []);
    assert_eq!(third.state(&spec.name, 0).await.pid, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_asked_for_since_is_not_started_again() {
    let services = dir();
    let supervisor = Arc::new(InProcess::new());
    let first = ServiceRunner::new(supervisor.clone(), services.path());
    let spec = server(services.path(), "exec sleep 1000");
    first.keep(&spec).await.unwrap();
    drop(first);
    let second = ServiceRunner::new(supervisor.clone(), services.path());
    assert!(second.state(&spec.name, 0).await.pid.is_some());
    let id = supervisor.list().await.unwrap().remove(0).id;
    supervisor.stop(&id, &Stop::now()).await.unwrap();
    let ended = until(&second, &spec, |state| state.last_exit.is_some()).await;
    assert_eq!((ended.pid, ended.restarts), (None, 0));
    assert_eq!(supervisor.list().await.unwrap(), []);
    // Asked for after all, it has come back.
    second.keep(&spec).await.unwrap();
    assert_eq!(second.state(&spec.name, 0).await.restarts, 1);
    second.stop(&spec.name).await.unwrap();
}
