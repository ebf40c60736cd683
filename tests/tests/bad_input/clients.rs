use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use tokio::process::Child;
use vela_protocol::{Outcome, Step};
use vela_tests::{Options, Release, World, kill, processes_of};

use super::{
    begin, end, entries, eventually, exists, expect_in_order, expect_undone, manifest, serving,
};

/// A release that is never healthy.
fn endless() -> Release {
    let health = "health = { path = \"/health\", retries = 1000 }";
    Release::demo_app(&manifest(health), "--never-listen")
}

async fn reach(world: &World, step: Step) {
    eventually(step.as_str(), async || {
        let status = world.client().status("shop").await.ok()?;
        let at = status.deploying.and_then(|busy| busy.step);
        (at == Some(step)).then_some(())
    })
    .await;
}

fn pid(child: &Child) -> u32 {
    child.id().expect("it has not ended")
}

#[tokio::test]
async fn ctrl_c_before_the_switch_undoes_the_deploy() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::new().await;
        let endless = endless();
        let first = begin(&world, &endless);
        reach(&world, Step::Health).await;
        kill(pid(&first), signal);
        let output = end(first).await.expect(130);
        assert_eq!(output.stdout, "");
        expect_in_order(
            &output.stderr,
            &[
                "cancelling: waiting for the undo",
                "start: undone in ",
                "error: the deploy of `shop` was cancelled by ",
                "\n`shop` serves nothing, as before\n",
            ],
        );
        expect_undone(&world, None).await;

        let good = super::deploy_good(&world).await;
        let second = begin(&world, &endless);
        reach(&world, Step::Health).await;
        kill(pid(&second), signal);
        let output = end(second).await.expect(130);
        assert!(
            output
                .stderr
                .ends_with(&format!("\n`shop` still serves {good}\n")),
            "{output:?}"
        );
        expect_undone(&world, Some(&good)).await;
        let history = world.client().history("shop").await.unwrap();
        let outcomes: Vec<_> = history.iter().map(|entry| entry.outcome).collect();
        assert_eq!(
            outcomes,
            [Outcome::Cancelled, Outcome::Succeeded, Outcome::Cancelled]
        );
    }
}

#[tokio::test]
async fn a_second_ctrl_c_leaves_the_undo_to_the_server() {
    let (world, good) = serving().await;
    let old = world.status("shop").await.pid.unwrap();
    // It does not stop by itself, and the undo waits for it.
    let stubborn = manifest("health = { path = \"/nowhere\", retries = 1000 }")
        .replace("stop_timeout = 3", "stop_timeout = 600");
    let release = Release::demo_app(&stubborn, "--ignore-term");
    let deploy = begin(&world, &release);
    reach(&world, Step::Health).await;
    let pid = pid(&deploy);
    kill(pid, Signal::INT);
    eventually("the stop of the new instance", async || {
        let history = std::fs::read_dir(world.app_dir("shop").join("history")).unwrap();
        let newest = history.map(|entry| entry.unwrap().path()).max().unwrap();
        let text = std::fs::read_to_string(newest).unwrap();
        text.contains("\"step_failed\"").then_some(())
    })
    .await;
    kill(pid, Signal::INT);
    let output = end(deploy).await.expect(130);
    expect_in_order(
        &output.stderr,
        &[
            "error: interrupted\n",
            "hint: `vela history shop --follow`",
            "the deploy of `shop` belongs to the server and goes on there\n",
        ],
    );
    for stubborn in processes_of(world.data_dir()) {
        if stubborn != old {
            kill(stubborn, Signal::KILL);
        }
    }
    // Whoever wants to know can follow it to its end.
    let follow = world.vela(&["history", "shop", "--follow"]).await;
    assert!([0, 3].contains(&follow.code), "{follow:?}");
    eventually("the undo", async || {
        world.status("shop").await.deploying.is_none().then_some(())
    })
    .await;
    expect_undone(&world, Some(&good)).await;
}

#[tokio::test]
async fn a_client_that_is_killed_leaves_its_deploy_to_the_server() {
    let (world, old) = serving().await;
    let hook = "health = \"/health\"\npre_start = \"touch $VELA_DATA_DIR/reached; until [ -e $VELA_DATA_DIR/go ]; do sleep 0.01; done\"";
    let release = Release::demo_app(&manifest(hook), "");
    let mut deploy = begin(&world, &release);
    let data = world.app_dir("shop").join("data");
    exists(&data.join("reached")).await;
    kill(pid(&deploy), Signal::KILL);
    deploy.wait().await.unwrap();
    std::fs::write(data.join("go"), "").unwrap();
    let newest = eventually("the end", async || {
        let history = world.client().history("shop").await.unwrap();
        let newest = history.into_iter().next().unwrap();
        (newest.outcome != Outcome::Running).then_some(newest)
    })
    .await;
    assert_eq!(newest.outcome, Outcome::Succeeded);
    assert_eq!(world.current("shop"), Some(newest.release));
    assert_ne!(world.current("shop"), Some(old));
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_nothing() {
    use std::io::Write;
    let (world, release) = serving().await;
    let staging = world.data_dir().join("staging");
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    let upload = uuid::Uuid::new_v4();
    write!(
        stream,
        "PUT /v1/uploads/{upload} HTTP/1.1\r\nhost: vela\r\ncontent-length: 100000\r\n\r\n{}",
        "x".repeat(50_000)
    )
    .unwrap();
    eventually("the upload", async || {
        (!entries(&staging).is_empty()).then_some(())
    })
    .await;
    drop(stream);
    eventually("its removal", async || {
        entries(&staging).is_empty().then_some(())
    })
    .await;
    expect_undone(&world, Some(&release)).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_exit_code_4() {
    let world = World::stopped(Options::default());
    let release = Release::demo_app(&manifest(""), "");
    let (manifest, files) = (release.manifest(), release.files());
    let deploy = [
        "deploy",
        "-m",
        manifest.to_str().unwrap(),
        files.to_str().unwrap(),
    ];
    for args in [
        &deploy[..],
        &["apps"],
        &["status", "shop"],
        &["logs", "shop"],
        &["rollback", "shop"],
        &["stop", "shop"],
        &["secret", "list", "--app", "shop"],
    ] {
        let output = world.vela(args).await.expect(4);
        assert_eq!(output.stdout, "");
        expect_in_order(
            &output.stderr,
            &[
                "error: the server is unreachable\n",
                world.socket().to_str().unwrap(),
                "hint: ",
            ],
        );
    }
    let output = world.vela(&deploy).await;
    assert!(
        output.stderr.ends_with("\nnothing was changed\n"),
        "{output:?}"
    );
    // A socket that nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(world.socket()).unwrap());
    world.vela(&["apps"]).await.expect(4);
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    let world = World::stopped(Options::default());
    for args in [
        &[][..],
        &["depoly"],
        &["deploy", "--fast"],
        &["deploy", "one", "two"],
        &["secret"],
        &["secret", "set"],
        &["secret", "set", "--app", "shop", "ONE", "TWO"],
        &["logs", "shop", "-n", "many"],
        &["apps", "-s", "-oProxyCommand=x"],
        &["apps", "-s", ""],
        &["init", "Shop"],
        &["init", "shop", "--domain", "not a host"],
        // Nothing says which app.
        &["logs"],
        &["rollback"],
    ] {
        let output = world.vela(args).await.expect(2);
        assert_eq!(output.stdout, "", "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    let output = world.vela(&["depoly"]).await;
    assert!(output.stderr.contains("'deploy'"), "{output:?}");
    assert_eq!(entries(world.dir()), ["server.toml"]);
}
