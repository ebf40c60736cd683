//! One app from `vela init` to `vela remove`, with the real command and a real daemon: what each command does, prints
//! and exits with.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;
use vela_protocol::{AppState, Envelope, Event};
use vela_tests::{MANIFEST, Output, Release, World, get, processes_of};

const HOST: &str = "shop.localhost";

/// What an operation prints where nobody watches a terminal: the release alone on stdout.
#[track_caller]
fn released(output: Output) -> String {
    let output = output.expect(0);
    assert!(!output.stderr.contains('\u{1b}'), "{output:?}");
    let release = output.stdout.strip_suffix('\n').unwrap_or_default();
    assert_eq!(release.len(), "20260305-143022".len(), "{output:?}");
    let last = output.stderr.lines().next_back().unwrap();
    assert!(
        last.starts_with(&format!("`shop` serves {release} (")),
        "{output:?}"
    );
    release.to_owned()
}

#[tokio::test]
async fn a_project_from_its_first_manifest_to_its_first_answer() {
    let world = World::new().await;
    let project = world.dir().join("my shop");
    std::fs::create_dir(&project).unwrap();
    let vela = async |args: &[&str]| -> Output {
        let output = world.command().current_dir(&project).args(args).output();
        output.await.unwrap().into()
    };

    let none = vela(&["deploy"]).await.expect(1);
    assert!(
        none.stderr
            .starts_with("error: there is no manifest at Vela.toml\nhint: `vela init` writes one"),
        "{none:?}"
    );
    let init = vela(&["init", "--domain", "my-shop.localhost"])
        .await
        .expect(0);
    assert_eq!(init.stdout, "");
    assert!(
        init.stderr.contains("wrote Vela.toml for `my-shop`"),
        "{init:?}"
    );
    let check = vela(&["check"]).await.expect(0);
    assert_eq!(
        (check.stdout.as_str(), check.stderr.as_str()),
        ("Vela.toml is valid\n", "")
    );
    let checked = vela(&["check", "--json"]).await.expect(0).json();
    assert_eq!(checked["valid"], true);
    assert_eq!(checked["not_yet_deployable"], serde_json::json!([]));

    // The manifest of someone is never overwritten by accident.
    let again = vela(&["init"]).await.expect(1);
    assert!(
        again
            .stderr
            .contains("error: Vela.toml exists already\nhint: "),
        "{again:?}"
    );

    // With nothing built there is nothing to deploy; then what cargo would have built is found by itself.
    let unbuilt = vela(&["deploy"]).await.expect(1);
    assert!(
        unbuilt
            .stderr
            .contains("there is nothing to deploy\nhint: name a program"),
        "{unbuilt:?}"
    );
    let built = project.join("target/release");
    std::fs::create_dir_all(&built).unwrap();
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    let script = format!("#!/bin/sh\nexec '{program}' demo-app\n");
    write_program(&built.join("my-shop"), &script);
    vela(&["deploy"]).await.expect(0);
    let (status, _) = get(world.http(), "my-shop.localhost", "/").await;
    assert_eq!(status, 200);
    // Beside a manifest the app needs no name.
    assert!(
        vela(&["status"])
            .await
            .expect(0)
            .stdout
            .starts_with("app       my-shop\n")
    );
}

fn write_program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn an_app_from_its_first_deploy_to_its_removal() {
    let world = World::new().await;
    let release = Release::demo_app(MANIFEST, "");
    let empty = world.vela(&["apps"]).await.expect(0);
    assert_eq!(empty.stdout, "", "{empty:?}");

    // Two deploys: each answers with its own release.
    let v1 = released(world.deploy(&release).await);
    assert_eq!(world.current("shop").as_ref(), Some(&v1));
    let (status, body) = get(world.http(), HOST, "/").await;
    assert_eq!(status, 200);
    assert!(body.starts_with(&v1), "{body}");
    let old_pid = world.status("shop").await.pid.unwrap();
    let v2 = released(world.deploy(&release).await);
    assert!(v1 < v2);
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&v2));
    assert!(
        !processes_of(world.data_dir()).contains(&old_pid),
        "the old instance is stopped"
    );

    // Back to the first, and its processes replaced: the release stays, the process does not.
    assert_eq!(released(world.vela(&["rollback", "shop"]).await), v1);
    assert_eq!(world.current("shop").as_ref(), Some(&v1));
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&v1));
    let before = world.status("shop").await.pid;
    assert_eq!(released(world.vela(&["restart", "shop"]).await), v1);
    assert_ne!(world.status("shop").await.pid, before);
    let to_current = world
        .vela(&["rollback", "shop", "--to", &v1])
        .await
        .expect(1);
    assert!(
        to_current
            .stderr
            .contains("is the current release of `shop` already"),
        "{to_current:?}"
    );
    assert_eq!(
        released(world.vela(&["rollback", "shop", "--to", &v2]).await),
        v2
    );

    // Stopped it answers 503 and stays stopped; started it serves what it served.
    let stopped = world.vela(&["stop", "shop"]).await.expect(0);
    assert_eq!(
        (stopped.stdout.as_str(), stopped.stderr.as_str()),
        ("", "`shop` is stopped; `vela start shop` starts it again\n")
    );
    assert_eq!(get(world.http(), HOST, "/").await.0, 503);
    assert_eq!(world.status("shop").await.state, AppState::Stopped);
    assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
    assert_eq!(released(world.vela(&["start", "shop"]).await), v2);
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&v2));

    // Removed it is gone, but for its data.
    std::fs::write(world.app_dir("shop").join("data/orders"), "3").unwrap();
    let removed = world.vela(&["remove", "shop", "--yes"]).await.expect(0);
    assert_eq!(removed.stdout, "", "{removed:?}");
    assert_eq!(get(world.http(), HOST, "/").await.0, 404);
    let unknown = world.vela(&["status", "shop"]).await.expect(1);
    assert_eq!(
        unknown.stderr,
        "error: there is no app `shop`\nhint: `vela apps` lists the apps of the server\n"
    );
    assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
    assert_eq!(world.names("shop", "data"), ["orders"]);

    // Deployed again it finds its data; removed with all it had, nothing is left.
    released(world.deploy(&release).await);
    assert_eq!(world.names("shop", "data"), ["orders"]);
    world
        .vela(&["remove", "shop", "--yes", "--purge"])
        .await
        .expect(0);
    assert!(!world.app_dir("shop").exists());
    let apps = world.vela(&["apps", "--json"]).await.expect(0).json();
    assert_eq!(apps, serde_json::json!([]));
}

#[tokio::test]
async fn what_programs_read() {
    let world = World::new().await;
    let release = Release::demo_app(MANIFEST, "--log-lines 3");
    let (manifest, files) = (release.manifest(), release.files());
    let paths = [manifest.to_str().unwrap(), files.to_str().unwrap()];

    let output = world
        .vela(&[
            "deploy",
            "--json",
            "-m",
            paths[0],
            paths[1],
            "--message",
            "first",
        ])
        .await
        .expect(0);
    assert_eq!(output.stderr, "");
    let events: Vec<Envelope> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (seq, envelope) in events.iter().enumerate() {
        assert_eq!(envelope.seq, seq as u64);
        assert_eq!(envelope.deploy, events[0].deploy);
        assert_eq!(envelope.event.is_terminal(), seq + 1 == events.len());
        assert!(!matches!(envelope.event, Event::Unknown(_)), "{envelope:?}");
    }
    let Some(Event::Succeeded { release: v1, .. }) = events.last().map(|last| &last.event) else {
        panic!("{output:?}")
    };

    for command in [&["apps"][..], &["status", "shop"]] {
        let apps = world
            .vela(&[command, &["--json"]].concat())
            .await
            .expect(0)
            .json();
        let app = &apps.as_array().unwrap()[0];
        assert_eq!(app["name"], "shop", "{apps}");
        assert_eq!(app["domain"], HOST);
        assert_eq!(app["release"], v1.as_str());
        assert_eq!(app["strategy"], "blue-green");
        assert_eq!(app["state"], "running");
        assert_eq!(app["health"], "healthy");
        assert!(app["uptime_seconds"].is_u64());
        let status = world.status("shop").await;
        assert_eq!(app["pid"], status.pid.unwrap());
        assert_eq!(app["port"], status.port.unwrap());
    }

    // A failed deploy is in the history and never among what can be gone back to.
    let broken = Release::demo_app(MANIFEST, "--exit-at-once 7");
    world.deploy(&broken).await.expect(3);
    let json = async |command: &str| -> Value {
        world
            .vela(&[command, "shop", "--json"])
            .await
            .expect(0)
            .json()
    };
    let releases = json("releases").await;
    let field = |entries: &Value, name: &str| -> Vec<String> {
        let entries = entries.as_array().unwrap().iter();
        entries
            .map(|entry| entry[name].as_str().unwrap_or("-").to_owned())
            .collect()
    };
    assert_eq!(field(&releases, "status"), ["failed", "current"]);
    assert_eq!(field(&releases, "message"), ["-", "first"]);
    assert_eq!(releases[1]["release"], v1.as_str());
    assert!(releases[1]["duration_ms"].is_u64(), "{releases}");
    let history = json("history").await;
    assert_eq!(field(&history, "operation"), ["deploy", "deploy"]);
    assert_eq!(field(&history, "outcome"), ["failed", "succeeded"]);
    assert_eq!(history[0]["failed_step"], "health");
    assert_eq!(
        history[0]["error"]["message"],
        "the instance exited with code 7 before it was healthy"
    );
    assert_eq!(
        history[1]["deploy"].as_str().unwrap(),
        events[0].deploy.to_string()
    );

    let logs = world.vela(&["logs", "shop", "--json"]).await.expect(0);
    let texts: Vec<String> = logs
        .stdout
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["stream"], "stdout");
            line["text"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        texts,
        [
            "line 1 of 3",
            "line 2 of 3",
            "line 3 of 3",
            &format!("{v1} is listening"),
            "exiting at once with code 7"
        ]
    );
    let last = world.vela(&["logs", "shop", "-n", "1"]).await.expect(0);
    assert_eq!(last.stdout.lines().count(), 1, "{last:?}");
    assert!(
        last.stdout.ends_with(" out exiting at once with code 7\n"),
        "{last:?}"
    );

    // An error is one object on stderr, and stdout stays empty.
    let error = world.vela(&["status", "blog", "--json"]).await.expect(1);
    assert_eq!(error.stdout, "");
    let error: Value = serde_json::from_str(&error.stderr).unwrap();
    assert_eq!(error["error"]["message"], "there is no app `blog`");
    assert_eq!(error["exit"], 1);
}

#[tokio::test]
async fn quiet_prints_results_and_errors_only() {
    let world = World::new().await;
    let release = Release::demo_app(MANIFEST, "");
    let (manifest, files) = (release.manifest(), release.files());
    let deploy = [
        "deploy",
        "-q",
        "-m",
        manifest.to_str().unwrap(),
        files.to_str().unwrap(),
    ];
    let output = world.vela(&deploy).await.expect(0);
    assert_eq!(output.stderr, "");
    let v1 = world.current("shop").unwrap();
    assert_eq!(output.stdout, format!("{v1}\n"));
    release.write("run", "#!/bin/sh\nexit 1\n");
    let failed = world.vela(&deploy).await.expect(3);
    assert_eq!(failed.stdout, "");
    assert!(
        failed
            .stderr
            .starts_with("error: the deploy of `shop` failed at health\n"),
        "{failed:?}"
    );
    assert!(
        failed
            .stderr
            .ends_with(&format!("\n`shop` still serves {v1}\n")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn logs_can_be_followed_over_a_deploy() {
    let world = World::new().await;
    let release = Release::demo_app(MANIFEST, "");
    world.deploy(&release).await.expect(0);
    let mut follower = world
        .command()
        .args(["logs", "shop", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(Duration::from_secs(30), lines.next_line()).await;
        line.expect("another line").unwrap().unwrap()
    };
    assert!(next().await.ends_with(" is listening"));
    world.deploy(&release).await.expect(0);
    let v2 = world.current("shop").unwrap();
    assert!(next().await.ends_with(&format!(" out {v2} is listening")));
    assert!(next().await.ends_with(" out stopping"));
}

#[tokio::test]
async fn a_stopped_app_stays_stopped_when_the_daemon_is_restarted() {
    let mut world = World::new().await;
    let release = Release::demo_app(MANIFEST, "");
    let v1 = released(world.deploy(&release).await);
    world.vela(&["stop", "shop"]).await.expect(0);
    assert_eq!(world.stop_daemon().await, Some(0));
    world.start(&[]).await;
    let status = world.status("shop").await;
    assert_eq!(status.state, AppState::Stopped);
    assert_eq!(status.release.as_ref(), Some(&v1));
    assert_eq!(get(world.http(), HOST, "/").await.0, 503);
    assert_eq!(released(world.vela(&["start", "shop"]).await), v1);
    assert_eq!(get(world.http(), HOST, "/").await.0, 200);
}
