use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::time::{sleep, timeout};

use crate::{Runner, ServerName, ServerSignal, ServerSpec, ServerState, ServerUser};

/// How long anything may take here: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every [`Runner`] must do. `dir` is an empty directory that every user may enter; as root
/// the system user for the service `postgres` is made.
///
/// # Panics
///
/// If it breaks the contract.
pub async fn runner_conformance(runner: &dyn Runner, dir: &Path) {
    let user = same_user_each_time(runner, dir).await;
    nothing_of_the_unknown(runner).await;
    runs_as_told(runner, dir, user.as_ref()).await;
    comes_back_until_stopped(runner, dir).await;
    ends_with_all_it_started(runner, dir).await;
    a_program_that_is_not_there(runner, dir).await;
    a_dropped_future_is_completed(runner, dir).await;
}

async fn same_user_each_time(runner: &dyn Runner, dir: &Path) -> Option<ServerUser> {
    let mut made = Vec::new();
    for _ in 0..2 {
        let user = runner.user("postgres", dir).await;
        made.push(user.expect("root can make a user, and others need none"));
    }
    assert_eq!(made[0], made[1], "the same user each time");
    let user = made.remove(0);
    assert_eq!(user.is_some(), geteuid().is_root(), "a user only as root");
    assert!(
        user.as_ref().is_none_or(|user| user.uid != 0),
        "a server is not run by root"
    );
    user
}

async fn nothing_of_the_unknown(runner: &dyn Runner) {
    let name = name("conformance-unknown");
    assert_eq!(runner.state(&name, 5).await, ServerState::default());
    runner.stop(&name).await.expect("it does not run anyway");
    runner
        .signal(&name, ServerSignal::Hangup)
        .await
        .expect_err("nothing can be signalled");
}

async fn runs_as_told(runner: &dyn Runner, dir: &Path, user: Option<&ServerUser>) {
    let script = "trap 'echo hup' HUP; trap 'echo int; exit 0' INT; \
        echo \"$1|$GIVEN|$HOME|$(pwd)|$(id -u)\"; while :; do sleep 0.01; done";
    let mut spec = shell("conformance-told", dir, script);
    spec.args.extend(["sh".into(), "an argument".into()]);
    spec.env.insert("GIVEN".into(), "given here".into());
    spec.user = user.cloned();
    spec.stop_signal = ServerSignal::Interrupt;

    runner.keep(&spec).await.expect("a shell can be started");
    let said = until_said(runner, &spec.name, "an argument").await;
    let uid = user.map_or(geteuid().as_raw(), |user| user.uid);
    let told = format!("an argument|given here||{}|{uid}", dir.display());
    assert_eq!(said, told, "argument, environment, directory, user");

    // What runs is left as it is, and another spec is for the next start.
    let pid = runner.state(&spec.name, 0).await.pid;
    spec.env.insert("GIVEN".into(), "given later".into());
    runner.keep(&spec).await.expect("it runs already");
    assert_eq!(runner.state(&spec.name, 0).await.pid, pid);

    runner
        .signal(&spec.name, ServerSignal::Hangup)
        .await
        .expect("it runs");
    until_said(runner, &spec.name, "hup").await;
    assert_eq!(runner.state(&spec.name, 0).await.pid, pid);

    runner.stop(&spec.name).await.expect("it can be stopped");
    let state = runner.state(&spec.name, 1).await;
    assert_eq!((state.pid, state.restarts), (None, 0));
    assert_eq!(state.log, ["int"], "the stop signal, and the last line");

    runner.keep(&spec).await.expect("it can be started again");
    until_said(runner, &spec.name, "given later").await;
    runner.stop(&spec.name).await.expect("it can be stopped");
    runner.stop(&spec.name).await.expect("stop is idempotent");
}

async fn comes_back_until_stopped(runner: &dyn Runner, dir: &Path) {
    let mut spec = shell("conformance-crash", dir, "while :; do sleep 0.01; done");
    runner.keep(&spec).await.expect("a shell can be started");
    let before = runner.state(&spec.name, 0).await.pid;
    kill(before.expect("it runs"));
    let state = until(runner, &spec.name, |state| {
        state.restarts == 1 && state.pid.is_some()
    })
    .await;
    assert_ne!(state.pid, before, "a process of its own");
    assert!(state.last_exit.is_some(), "how it ended is known");
    // Asked for during the pause, it has come back all the same.
    kill(state.pid.expect("it runs"));
    timeout(PATIENCE, async {
        while runner.state(&spec.name, 0).await.pid == state.pid {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it ends");
    runner.keep(&spec).await.expect("it can be started again");
    assert_eq!(runner.state(&spec.name, 0).await.restarts, 2);
    runner.stop(&spec.name).await.expect("it can be stopped");

    let marker = dir.join("ran");
    spec = shell("conformance-loop", dir, "echo once more; exit 3");
    runner.keep(&spec).await.expect("a shell can be started");
    let state = until(runner, &spec.name, |state| state.restarts >= 2).await;
    assert!(
        state
            .last_exit
            .as_deref()
            .is_some_and(|exit| exit.contains('3')),
        "{state:?}"
    );
    // Stopped between two starts, it stays so: the next one would leave a trace.
    runner.stop(&spec.name).await.expect("it can be stopped");
    spec.args[1] = format!("touch {}; sleep 100", marker.display());
    let state = runner.state(&spec.name, 0).await;
    assert_eq!(state.pid, None);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(runner.state(&spec.name, 0).await.restarts, state.restarts);
    runner.keep(&spec).await.expect("it can be started again");
    timeout(PATIENCE, async {
        while !marker.exists() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("the new spec is started");
    runner.stop(&spec.name).await.expect("it can be stopped");
}

/// A server that ignores its stop signal, and whose children leave its group as those of
/// Postgres do.
async fn ends_with_all_it_started(runner: &dyn Runner, dir: &Path) {
    let script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo child $$; sleep 1000' & \
        while :; do sleep 0.01; done";
    let mut spec = shell("conformance-tree", dir, script);
    spec.stop_grace = Duration::from_millis(100);
    runner.keep(&spec).await.expect("a shell can be started");
    let said = until_said(runner, &spec.name, "child").await;
    let child = said.rsplit(' ').next().expect("the id of the child");
    let main = runner.state(&spec.name, 0).await.pid.expect("it runs");

    runner
        .stop(&spec.name)
        .await
        .expect("it is killed in the end");
    for process in [child, &main.to_string()] {
        assert!(!lives(process), "process {process} has ended");
    }
}

async fn a_program_that_is_not_there(runner: &dyn Runner, dir: &Path) {
    let mut spec = shell("conformance-none", dir, "");
    spec.program = dir.join("no-such-program");
    runner
        .keep(&spec)
        .await
        .expect_err("there is nothing to run");
    let state = runner.state(&spec.name, 0).await;
    assert_eq!((state.pid, state.restarts), (None, 0), "it is not retried");
    runner.stop(&spec.name).await.expect("it does not run");
}

async fn a_dropped_future_is_completed(runner: &dyn Runner, dir: &Path) {
    let script = "echo started $$; while :; do sleep 0.01; done";
    let spec = shell("conformance-dropped", dir, script);
    drop(pin!(runner.keep(&spec)).poll(&mut Context::from_waker(Waker::noop())));
    runner.keep(&spec).await.expect("a shell can be started");
    until_said(runner, &spec.name, "started").await;
    let pid = runner.state(&spec.name, 0).await.pid.expect("it runs");

    drop(pin!(runner.stop(&spec.name)).poll(&mut Context::from_waker(Waker::noop())));
    runner.stop(&spec.name).await.expect("it can be stopped");
    assert_eq!(runner.state(&spec.name, 0).await.pid, None);
    assert!(!lives(&pid.to_string()));

    let log = runner.state(&spec.name, 9).await.log;
    let starts: Vec<_> = log.iter().filter(|line| line.contains("started")).collect();
    assert_eq!(starts.len(), 1, "never two of one name: {starts:?}");
}

/// A server that runs a script of `/bin/sh`.
fn shell(server: &str, dir: &Path, script: &str) -> ServerSpec {
    ServerSpec {
        name: name(server),
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        cwd: dir.to_owned(),
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        user: None,
        stop_signal: ServerSignal::Terminate,
        stop_grace: Duration::from_secs(10),
    }
}

fn name(server: &str) -> ServerName {
    ServerName::parse(server).expect("a valid name")
}

/// The last line that contains `text`, once there is one.
async fn until_said(runner: &dyn Runner, server: &ServerName, text: &str) -> String {
    let state = until(runner, server, |state| {
        state.log.iter().any(|line| line.contains(text))
    })
    .await;
    let said = state.log.into_iter().rev().find(|line| line.contains(text));
    said.expect("it was there")
}

async fn until(
    runner: &dyn Runner,
    server: &ServerName,
    condition: impl Fn(&ServerState) -> bool,
) -> ServerState {
    let reached = timeout(PATIENCE, async {
        loop {
            let state = runner.state(server, 20).await;
            if condition(&state) {
                return state;
            }
            sleep(Duration::from_millis(2)).await;
        }
    });
    match reached.await {
        Ok(state) => state,
        Err(_) => panic!("{server}: {:?}", runner.state(server, 20).await),
    }
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("an id"), Signal::KILL).expect("it runs");
}

/// Whether a process runs. One that nobody has reaped yet does not.
fn lives(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
