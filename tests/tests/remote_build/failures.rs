//! A build that fails, is cancelled, takes too long or loses its daemon changes nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use vela_protocol::Outcome;
use vela_tests::{get, is_alive, kill};

use super::project::{Project, end};

const GOOD: &str = "command = \"echo good\"";

/// An app that serves, and the release that does.
async fn serving() -> (Project, String) {
    let project = Project::new().await;
    let vela = env!("CARGO_BIN_EXE_vela-under-test");
    project.write_script("run", &format!("exec '{vela}' demo-app"));
    let release = good(&project).await;
    (project, release)
}

async fn good(project: &Project) -> String {
    build(project, GOOD);
    project.deployed().await.release
}

fn build(project: &Project, build: &str) {
    project.manifest("shop", "binary = \"run\"", build);
    project.commit();
}

/// The old release serves, with the process it had; nothing is left of the build but its cache and its log.
async fn expect_unchanged(project: &Project, release: &str, pid: Option<u32>) {
    let world = &project.world;
    assert_eq!(world.current("shop").as_deref(), Some(release));
    assert_eq!(world.names("shop", "releases"), [release]);
    assert_eq!(world.names("shop", "meta"), [release]);
    assert_eq!(world.status("shop").await.pid, pid);
    let (status, body) = get(world.http(), "shop.localhost", "/").await;
    assert_eq!(status, 200);
    assert!(body.starts_with(release), "{body}");
    let run = std::fs::read_dir(world.data_dir().join("run")).unwrap();
    let processes = run.filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(processes.count(), 1, "directories of processes");
}

/// What is staged goes with the end of the operation, a moment after the client hears of it.
async fn until_nothing_is_staged(project: &Project) {
    let began = Instant::now();
    let staging = project.world.data_dir().join("staging");
    while std::fs::read_dir(&staging).unwrap().count() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_gone(pid: u32) {
    let began = Instant::now();
    while is_alive(pid) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "process {pid} lives"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_build_that_fails() {
    let (project, release) = serving().await;
    let pid = project.world.status("shop").await.pid;
    build(
        &project,
        "command = \"echo compiling; echo 'error: it does not compile' >&2; exit 3\"",
    );
    let deploy = project.deploy().await.expect(3);
    for said in [
        "\nbuild | compiling\nbuild | error: it does not compile\n",
        "\nerror: the deploy of `shop` failed at build\n  caused by: the build exited with code 3\n  | compiling\n  | error: it does not compile\n",
    ] {
        assert!(deploy.stderr.contains(said), "{said}: {deploy:?}");
    }
    assert!(
        deploy
            .stderr
            .ends_with(&format!("\n`shop` still serves {release}\n")),
        "{deploy:?}"
    );
    expect_unchanged(&project, &release, pid).await;
    until_nothing_is_staged(&project).await;
    let log = project
        .vela(&["logs", "--build", "-n", "1"])
        .await
        .expect(0);
    assert!(
        log.stdout.ends_with(" err error: it does not compile\n"),
        "{log:?}"
    );

    build(&project, "command = \"true\"\noutput = \"dist\"");
    let deploy = project.deploy().await.expect(3);
    let said = "caused by: the build left nothing at `dist`: in `.` there is Vela.toml, run\n";
    assert!(deploy.stderr.contains(said), "{deploy:?}");
    expect_unchanged(&project, &release, pid).await;
    assert!(good(&project).await > release);
}

#[tokio::test]
async fn a_build_that_is_cancelled() {
    let (project, release) = serving().await;
    let pid = project.world.status("shop").await.pid;
    build(
        &project,
        "command = \"setsid sleep 1000 & echo pid $!; wait\"",
    );
    // By Ctrl-C, and from elsewhere.
    let (deploy, child) = project.building("pid ").await;
    kill(deploy.id().unwrap(), Signal::INT);
    let deploy = end(deploy).await.expect(130);
    assert!(
        deploy
            .stderr
            .ends_with(&format!("\n`shop` still serves {release}\n")),
        "{deploy:?}"
    );
    until_gone(child.parse().unwrap()).await;
    expect_unchanged(&project, &release, pid).await;

    let (deploy, child) = project.building("pid ").await;
    let busy = project.deploy().await.expect(5);
    assert!(
        busy.stderr.contains("`shop` is busy: deploy by "),
        "{busy:?}"
    );
    project.vela(&["cancel", "shop"]).await.expect(0);
    let deploy = end(deploy).await.expect(3);
    assert!(
        deploy
            .stderr
            .contains("the deploy of `shop` was cancelled by "),
        "{deploy:?}"
    );
    until_gone(child.parse().unwrap()).await;
    expect_unchanged(&project, &release, pid).await;
    until_nothing_is_staged(&project).await;
    assert!(good(&project).await > release);
}

#[tokio::test]
async fn a_build_that_takes_too_long() {
    let (project, release) = serving().await;
    let pid = project.world.status("shop").await.pid;
    build(
        &project,
        "timeout = 5\ncommand = \"setsid sleep 1000 & echo pid $!; wait\"",
    );
    let (deploy, child) = project.building("pid ").await;
    let deploy = end(deploy).await.expect(3);
    assert!(
        deploy
            .stderr
            .contains("caused by: the build did not end within 5 s\n"),
        "{deploy:?}"
    );
    assert!(
        deploy.stderr.contains("\nhint: raise `timeout` in [build]"),
        "{deploy:?}"
    );
    until_gone(child.parse().unwrap()).await;
    expect_unchanged(&project, &release, pid).await;
}

#[tokio::test]
async fn a_build_whose_daemon_is_killed() {
    let (mut project, release) = serving().await;
    let pid = project.world.status("shop").await.pid;
    build(
        &project,
        "command = \"echo pid $$; touch half-done; exec sleep 1000\"",
    );
    let (deploy, builder) = project.building("pid ").await;
    let builder = builder.parse().unwrap();
    project.world.kill_daemon().await;
    assert!(
        is_alive(builder),
        "it outlives the daemon, as everything does"
    );
    project.world.start(&[]).await;
    // The command attaches again, and hears that the next daemon has undone it.
    let deploy = end(deploy).await.expect(3);
    assert!(
        deploy
            .stderr
            .ends_with(&format!("\n`shop` still serves {release}\n")),
        "{deploy:?}"
    );
    until_gone(builder).await;
    expect_unchanged(&project, &release, pid).await;
    until_nothing_is_staged(&project).await;
    let history = project.world.client().history("shop").await.unwrap();
    assert_eq!(history[0].outcome, Outcome::Failed);
    assert!(
        project.built("shop", "half-done").exists(),
        "the cache stays"
    );
    let log = project.vela(&["logs", "--build"]).await.expect(0);
    assert!(
        log.stdout.contains(&format!(" out pid {builder}\n")),
        "{log:?}"
    );
    assert!(good(&project).await > release);
}
