//! `vela deploy` against a daemon that says what the test tells it to: what is shown, how it ends, what Ctrl-C does.

use crate::support::World;
use serde_json::{Value, json};

const OLD: &str = "20260305-143022";
const NEW: &str = "20260305-150000";

fn started() -> Value {
    json!({
        "kind": "started", "app": "my-app", "operation": "deploy", "release": NEW, "previous": OLD,
        "strategy": "blue-green", "by": { "uid": 0, "user": "root" },
        "steps": ["unpack", "health", "switch", "commit"],
    })
}

fn step_started(step: &str) -> Value {
    json!({ "kind": "step_started", "step": step })
}

fn step_finished(step: &str) -> Value {
    json!({ "kind": "step_finished", "step": step, "ms": 3 })
}

fn succeeded() -> Value {
    json!({ "kind": "succeeded", "release": NEW, "ms": 1400 })
}

fn cancelled() -> Value {
    json!({
        "kind": "cancelled", "by": { "uid": 0, "user": "root" }, "ms": 90,
        "serving": { "state": "previous", "release": OLD },
    })
}

fn failed(serving: Value) -> Value {
    json!({
        "kind": "failed", "step": "health", "ms": 90, "serving": serving,
        "error": {
            "message": "the instance exited", "causes": ["exit code 3"],
            "hint": "`vela logs my-app` shows more", "output": ["panic: \u{1b}[2Jno database"],
        },
    })
}

#[test]
fn plain_lines_say_what_happened_and_stdout_has_the_release() {
    let world = World::new();
    let deploy = world.deploy(&[]);
    world.say(0, started());
    world.say(1, step_started("unpack"));
    world.say(2, step_finished("unpack"));
    world.say(3, json!({ "kind": "hook_printed", "hook": "pre_start", "stream": "stdout", "line": "migrated \u{1b}[2J" }));
    world.say(4, json!({ "kind": "moon_phase_changed", "phase": "full" }));
    world.say(5, succeeded());
    let (code, stdout, stderr) = deploy.end();
    assert_eq!((code, stdout.as_str()), (0, "20260305-150000\n"));
    assert!(stderr[0].starts_with("pack: "), "{stderr:#?}");
    assert!(stderr[1].starts_with("upload: "), "{stderr:#?}");
    assert_eq!(
        stderr[2..],
        [
            "deploy my-app 20260305-150000 (blue-green)",
            "unpack: 3 ms",
            "pre_start | migrated ␛[2J",
            "`my-app` serves 20260305-150000 (1.4 s)",
        ]
    );
}

#[test]
fn with_json_stdout_is_the_envelopes_and_nothing_else() {
    let world = World::new();
    let deploy = world.deploy(&["--json"]);
    world.say(0, started());
    world.say(1, json!({ "kind": "moon_phase_changed", "phase": "full" }));
    world.say(2, succeeded());
    let (code, stdout, stderr) = deploy.end();
    assert_eq!((code, stderr.len()), (0, 0), "{stderr:#?}");
    let events: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["started", "moon_phase_changed", "succeeded"]);
    assert_eq!(events[1]["phase"], "full");
}

#[test]
fn quiet_is_quiet() {
    let world = World::new();
    let deploy = world.deploy(&["-q"]);
    world.say(0, started());
    world.say(1, succeeded());
    let (code, stdout, stderr) = deploy.end();
    assert_eq!(
        (code, stdout.as_str(), stderr.len()),
        (0, "20260305-150000\n", 0)
    );
}

#[test]
fn the_exit_code_and_the_last_line_say_what_the_users_get() {
    for (serving, expected, state) in [
        (
            json!({ "state": "previous", "release": OLD }),
            3,
            "`my-app` still serves 20260305-143022",
        ),
        (
            json!({ "state": "nothing" }),
            1,
            "`my-app` serves nothing, as before",
        ),
        (
            json!({ "state": "down", "release": OLD }),
            6,
            "`my-app` is DOWN: 20260305-143022 should serve",
        ),
    ] {
        let world = World::new();
        let deploy = world.deploy(&["-q"]);
        world.say(0, started());
        world.say(1, failed(serving));
        let (code, stdout, stderr) = deploy.end();
        assert_eq!((code, stdout.as_str()), (expected, ""));
        assert_eq!(
            stderr,
            [
                "error: the deploy of `my-app` failed at health",
                "  caused by: the instance exited",
                "  caused by: exit code 3",
                "  | panic: ␛[2Jno database",
                "hint: `vela logs my-app` shows more",
                state,
            ]
        );
    }
}

#[test]
fn ctrl_c_before_the_switch_cancels_and_waits_for_the_undo() {
    let world = World::new();
    let mut deploy = world.deploy(&[]);
    world.say(0, started());
    world.say(1, step_started("unpack"));
    world.say(2, step_finished("unpack"));
    deploy.wait_for_line("unpack");
    deploy.interrupt();
    world.wait_for("POST /v1/apps/my-app/cancel");
    world.say(
        3,
        json!({ "kind": "step_undone", "step": "unpack", "ms": 1 }),
    );
    world.say(4, cancelled());
    let (code, _, stderr) = deploy.end();
    assert_eq!(code, 130, "{stderr:#?}");
    assert!(
        stderr.contains(&"unpack: undone in 1 ms".to_owned()),
        "{stderr:#?}"
    );
    assert_eq!(
        stderr.last().unwrap(),
        "`my-app` still serves 20260305-143022"
    );
}

#[test]
fn a_second_ctrl_c_leaves_the_undo_to_the_server() {
    let world = World::new();
    let mut deploy = world.deploy(&[]);
    world.say(0, started());
    deploy.wait_for_line("deploy my-app");
    deploy.interrupt();
    world.wait_for("POST /v1/apps/my-app/cancel");
    deploy.interrupt();
    let (code, _, stderr) = deploy.end();
    assert_eq!(code, 130, "{stderr:#?}");
    assert!(
        stderr.last().unwrap().contains("goes on there"),
        "{stderr:#?}"
    );
}

#[test]
fn ctrl_c_after_the_switch_only_looks_away() {
    let world = World::new();
    let mut deploy = world.deploy(&[]);
    world.say(0, started());
    world.say(1, step_started("switch"));
    world.say(2, step_finished("switch"));
    deploy.wait_for_line("switch");
    deploy.interrupt();
    let (code, _, stderr) = deploy.end();
    assert_eq!(code, 130, "{stderr:#?}");
    assert!(
        stderr
            .iter()
            .any(|line| line.contains("`vela history my-app --follow`")),
        "{stderr:#?}"
    );
    assert!(
        !world
            .rest()
            .iter()
            .any(|request| request.contains("cancel"))
    );
}

#[test]
fn a_cut_stream_is_attached_to_again_from_where_it_was() {
    let world = World::new();
    let mut deploy = world.deploy(&[]);
    world.say(0, started());
    world.say(1, step_started("unpack"));
    deploy.wait_for_line("deploy my-app");
    world.cut();
    world.wait_for("GET /v1/deploys/*/events?from=2");
    world.say(2, step_finished("unpack"));
    world.say(3, succeeded());
    let (code, stdout, stderr) = deploy.end();
    assert_eq!(
        (code, stdout.as_str()),
        (0, "20260305-150000\n"),
        "{stderr:#?}"
    );
    assert!(stderr.contains(&"unpack: 3 ms".to_owned()), "{stderr:#?}");
}
