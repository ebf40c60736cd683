use vela_tests::{Output, Release, World};

use super::{expect_in_order, expect_undone, manifest, serving};

/// Probes in a hurry, of what need not even be there.
const HASTY: &str = "retries = 2, interval = \"100ms\"";

/// Probes that give an app the time to listen.
const PATIENT: &str = "retries = 5, interval = \"1s\"";

/// Deploys a bad release first as the first one ever, then over a good one. Gives what the two commands said.
async fn twice(deploy: &str, script: impl Fn(&World) -> Release) -> Output {
    let world = World::new().await;
    let release = script(&world);
    release.set_manifest(&manifest(deploy));
    let first = world.deploy(&release).await.expect(1);
    assert_eq!(first.stdout, "");
    assert!(
        first
            .stderr
            .ends_with("\n`shop` serves nothing, as before\n"),
        "{first:?}"
    );
    expect_undone(&world, None).await;

    let good = super::deploy_good(&world).await;
    let pid = world.status("shop").await.pid;
    let second = world.deploy(&release).await.expect(3);
    assert_eq!(second.stdout, "");
    assert!(
        second
            .stderr
            .ends_with(&format!("\n`shop` still serves {good}\n")),
        "{second:?}"
    );
    expect_undone(&world, Some(&good)).await;
    assert_eq!(world.status("shop").await.pid, pid, "it is undisturbed");
    second
}

fn demo_app(args: &str) -> impl Fn(&World) -> Release {
    move |_| Release::demo_app("", args)
}

fn script(text: &str) -> impl Fn(&World) -> Release {
    move |_| Release::script("", text)
}

#[tokio::test]
async fn an_entrypoint_that_exits_at_once_shows_its_last_lines() {
    let text = "for n in $(seq 30); do echo \"line $n\"; done; echo no database >&2; exit 7";
    let output = twice("health = \"/health\"", script(text)).await;
    expect_in_order(
        &output.stderr,
        &[
            "error: the deploy of `shop` failed at health\n",
            "  caused by: the instance exited with code 7 before it was healthy\n",
            "  | line 29\n  | line 30\n  | no database\n",
        ],
    );
    assert!(!output.stderr.contains("| line 5\n"), "{output:?}");
    assert!(
        !output.stderr.contains("attempt"),
        "an exit ends the wait: {output:?}"
    );
}

#[tokio::test]
async fn an_entrypoint_that_is_killed_says_by_what() {
    let output = twice("health = \"/health\"", script("kill -KILL $$")).await;
    assert!(
        output.stderr.contains("the instance killed by signal 9"),
        "{output:?}"
    );
}

#[tokio::test]
async fn one_that_exits_with_success_has_failed_too() {
    let output = twice("", script("exit 0")).await;
    assert!(
        output
            .stderr
            .contains("the instance exited with code 0 before it was healthy"),
        "{output:?}"
    );
}

#[tokio::test]
async fn one_that_never_listens_is_told_about_its_port() {
    for health in [
        format!("health = {{ path = \"/health\", {HASTY} }}"),
        format!("health = {{ tcp = true, {HASTY} }}"),
    ] {
        let output = twice(&health, demo_app("--never-listen")).await;
        expect_in_order(
            &output.stderr,
            &[
                "health: attempt 1 of 2: cannot connect to 127.0.0.1:",
                "health: attempt 2 of 2: cannot connect to 127.0.0.1:",
                "  caused by: the instance was not healthy after ",
                "  caused by: cannot connect to 127.0.0.1:",
                "hint: ",
                "$PORT",
            ],
        );
    }
}

#[tokio::test]
async fn a_health_path_that_answers_something_else_is_quoted() {
    let cases = [
        (
            "",
            "/healthy",
            "10s",
            "answered 404, expected 200: no such page",
        ),
        (
            "--health-status 500",
            "/health",
            "10s",
            "answered 500, expected 200: not healthy: told to say so",
        ),
        (
            "--health-hang",
            "/health",
            "300ms",
            "no answer within 300ms",
        ),
    ];
    let cases = cases.map(|(args, path, timeout, said)| async move {
        let health = format!("health = {{ path = {path:?}, timeout = {timeout:?}, {PATIENT} }}");
        let output = twice(&health, demo_app(args)).await;
        expect_in_order(
            &output.stderr,
            &[
                &format!("health: attempt 5 of 5: {said}\n"),
                "error: the deploy of `shop` failed at health\n",
                "  caused by: the instance was not healthy after ",
                &format!("  caused by: {said}\n"),
                // What the app itself had to say.
                " is listening\n",
            ],
        );
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn an_exec_probe_that_fails_is_quoted() {
    let health = format!("health = {{ exec = \"echo cache is cold; exit 4\", {HASTY} }}");
    let output = twice(&health, demo_app("")).await;
    expect_in_order(
        &output.stderr,
        &["exited with status 4: cache is cold\n", "error: "],
    );
}

#[tokio::test]
async fn one_that_dies_between_its_health_and_its_traffic_gets_none() {
    // It is told to die, and the hook ends when the daemon knows.
    let deploy = "health = \"/health\"\npre_switch = \"touch $VELA_DATA_DIR/die; while [ -e $VELA_DATA_DIR/../../../run/$(cat $VELA_DATA_DIR/instance) ]; do sleep 0.01; done\"";
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    let text = format!(
        "cd $VELA_DATA_DIR; rm -f die; echo $VELA_INSTANCE > instance; '{program}' demo-app & \
         until [ -e die ]; do sleep 0.01; done; echo crashing; exit 1"
    );
    let output = twice(deploy, script(&text)).await;
    expect_in_order(
        &output.stderr,
        &[
            "error: the deploy of `shop` failed at switch\n",
            "  caused by: the instance exited with code 1 before the traffic was switched\n",
            "  | crashing\n",
        ],
    );
}

#[tokio::test]
async fn a_hook_that_fails_shows_its_last_lines() {
    for (hook, step) in [("pre_start", "pre_start"), ("pre_switch", "pre_switch")] {
        let deploy = format!(
            "health = \"/health\"\n{hook} = \"echo migrating; echo no such table >&2; exit 9\""
        );
        let output = twice(&deploy, demo_app("")).await;
        expect_in_order(
            &output.stderr,
            &[
                &format!("{hook} | migrating\n"),
                &format!("error: the deploy of `shop` failed at {step}\n"),
                &format!("  caused by: the hook {hook} exited with code 9\n"),
                "  | migrating\n  | no such table\n",
            ],
        );
    }
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_all_it_started() {
    let deploy = "hook_timeout = 5\npre_start = \"echo waiting; sleep 1000 & sleep 1000\"";
    let output = twice(deploy, demo_app("")).await;
    expect_in_order(
        &output.stderr,
        &[
            "  caused by: the hook pre_start did not end within 5 s\n",
            "  | waiting\n",
            "hint: raise `hook_timeout`",
        ],
    );
}

#[tokio::test]
async fn a_failed_post_deploy_hook_is_told_and_undoes_nothing() {
    let (world, old) = serving().await;
    let deploy = "health = \"/health\"\npost_deploy = \"echo nobody to notify; exit 3\"";
    let output = world
        .deploy(&Release::demo_app(&manifest(deploy), ""))
        .await
        .expect(0);
    expect_in_order(
        &output.stderr,
        &[
            "post_deploy | nobody to notify\n",
            "post_deploy: failed after ",
            "the hook post_deploy exited with code 3\n",
            "`shop` serves ",
        ],
    );
    assert_ne!(world.current("shop"), Some(old));
}
