//! The order in which a deploy does things, and what it leaves on disk.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::path::{Path, PathBuf};

use vela_protocol::{Event, Hook, Step};
use vela_tests::{Artifact, Deploy, World, get, is_alive};

const HOST: &str = "shop.localhost";

fn shop(deploy: &str) -> Artifact {
    let lines = format!("health = \"/health\"\ndrain = 1\nstop_timeout = 10\n{deploy}");
    Artifact::demo_app("shop", &lines, "")
}

/// The steps that were begun.
fn begun(deploy: &Deploy) -> Vec<Step> {
    let steps = deploy.events().filter_map(|event| match event {
        Event::StepStarted { step } => Some(*step),
        _ => None,
    });
    steps.collect()
}

/// The process that a deploy started.
fn started(deploy: &Deploy) -> u32 {
    let pid = deploy.events().find_map(|event| match event {
        Event::InstanceStarted { pid, .. } => Some(*pid),
        _ => None,
    });
    pid.unwrap()
}

/// A hook that tells that it has begun, and goes on once it may.
fn waiting(hook: Hook) -> String {
    format!("{hook} = \"echo here; while [ ! -e $VELA_DATA_DIR/go ]; do sleep 0.01; done\"\n")
}

async fn until_here(deploy: &mut Deploy) {
    let here = |event: &Event| match event {
        Event::HookPrinted { line, .. } if line == "here" => Some(()),
        _ => None,
    };
    deploy.until("the hook", here).await;
}

fn go(world: &World) -> PathBuf {
    world.app_dir("shop").join("data/go")
}

#[tokio::test]
async fn the_steps_come_in_their_order() {
    let world = World::new().await;
    let hooks = "pre_start = \"true\"\npre_switch = \"true\"\npost_deploy = \"true\"\n";
    let services = "[services.nats]";
    let first = [
        Step::Unpack,
        Step::Register,
        Step::Provision,
        Step::PreStart,
        Step::Start,
        Step::Health,
        Step::PreSwitch,
        Step::Switch,
        Step::Commit,
        Step::PostDeploy,
        Step::Cleanup,
    ];
    let deploy = shop(&format!("{hooks}{services}")).deploy(&world).await;
    assert_eq!(begun(&deploy), first);

    // With something to replace, it is drained and stopped once the new one serves.
    let mut blue_green = first.to_vec();
    blue_green.splice(9..9, [Step::Drain, Step::Stop]);
    let deploy = shop(&format!("{hooks}{services}")).deploy(&world).await;
    assert_eq!(begun(&deploy), blue_green);

    // Or before the new one starts.
    let mut sequential = first.to_vec();
    sequential.splice(4..4, [Step::Park, Step::StopFirst]);
    let lines = format!("strategy = \"sequential\"\n{hooks}{services}");
    let deploy = shop(&lines).deploy(&world).await;
    assert_eq!(begun(&deploy), sequential);

    // A rollback has its files, and its manifest.
    let rollback = &mut Deploy::roll_back(&world, "shop").await;
    rollback.succeed().await;
    blue_green.retain(|step| !matches!(step, Step::Unpack | Step::Register | Step::PreStart));
    assert_eq!(begun(rollback), blue_green);
}

#[tokio::test]
async fn blue_green_runs_both_for_a_while_and_switches_what_is_healthy() {
    let world = World::new().await;
    let first = shop("").deploy(&world).await.succeed().await;
    let old = world.status("shop").await.pid.unwrap();
    let mut deploy = shop(&waiting(Hook::PreSwitch)).begin(&world).await;
    until_here(&mut deploy).await;
    let new = started(&deploy);
    assert!(is_alive(old) && is_alive(new));
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&first));
    assert_eq!(world.current("shop"), Some(first));
    std::fs::write(go(&world), "").unwrap();
    let second = deploy.succeed().await;
    assert!(!is_alive(old) && is_alive(new));
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&second));
    assert_eq!(world.current("shop"), Some(second));
}

#[tokio::test]
async fn sequential_never_runs_two() {
    let world = World::new().await;
    let lines = "strategy = \"sequential\"\n";
    shop(lines).deploy(&world).await;
    let old = world.status("shop").await.pid.unwrap();
    let hooks = [Hook::PreStart, Hook::PreSwitch].map(waiting).concat();
    let mut deploy = shop(&format!("{lines}{hooks}")).begin(&world).await;
    // It serves on until its successor is about to start.
    until_here(&mut deploy).await;
    assert!(is_alive(old));
    assert_eq!(get(world.http(), HOST, "/").await.0, 200);
    std::fs::write(go(&world), "").unwrap();
    deploy.reach(Step::Start).await;
    assert!(!is_alive(old));
    deploy.succeed().await;
    assert!(is_alive(started(&deploy)));
}

#[tokio::test]
async fn a_pre_start_hook_runs_before_the_new_instance_and_a_post_deploy_hook_after_the_old_one() {
    let world = World::new().await;
    shop("").deploy(&world).await;
    let old = world.status("shop").await.pid.unwrap();
    let mut deploy = shop(&waiting(Hook::PreStart)).begin(&world).await;
    until_here(&mut deploy).await;
    let is_started = |event: &Event| matches!(event, Event::InstanceStarted { .. });
    assert!(!deploy.events().any(is_started), "{deploy:?}");
    std::fs::write(go(&world), "").unwrap();
    deploy.succeed().await;
    assert!(!is_alive(old));

    std::fs::remove_file(go(&world)).unwrap();
    let old = world.status("shop").await.pid.unwrap();
    let mut deploy = shop(&waiting(Hook::PostDeploy)).begin(&world).await;
    until_here(&mut deploy).await;
    assert!(!is_alive(old) && is_alive(started(&deploy)));
    assert_eq!(get(world.http(), HOST, "/").await.0, 200);
    std::fs::write(go(&world), "").unwrap();
    deploy.succeed().await;
}

#[tokio::test]
async fn what_is_on_disk_after_deploys() {
    let world = World::new().await;
    let secret = ["secret", "set", "--app", "shop", "TOKEN=t0"];
    world.vela(&secret).await.expect(0);
    let artifact = shop("[env]\nMODE = \"live\"");
    let first = artifact.deploy(&world).await.succeed().await;
    let root = world.app_dir("shop");
    let kept = root.join("data/shop.db");
    std::fs::write(&kept, "rows").unwrap();
    let second = artifact.deploy(&world).await.succeed().await;

    assert_eq!(
        world.names("shop", ""),
        [
            "app.toml",
            "current",
            "data",
            "desired.toml",
            "history",
            "logs",
            "meta",
            "releases",
            "secrets",
            "tmp"
        ]
    );
    let link = std::fs::read_link(root.join("current")).unwrap();
    assert_eq!(link, Path::new("releases").join(&second));
    assert_eq!(world.names("shop", "releases"), [&*first, &*second]);
    for release in [&first, &second] {
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let form: String = release.chars().map(digits).collect();
        assert_eq!(form, "00000000-000000");
        assert_eq!(world.names("shop", &format!("releases/{release}")), ["run"]);
        let files = world.names("shop", &format!("meta/{release}"));
        assert_eq!(files, ["manifest.toml", "release.toml"]);
    }
    // What it was deployed with, the environment included, is kept with the release and readable beside it.
    let manifest = root.join(format!("meta/{second}/manifest.toml"));
    let manifest = std::fs::read_to_string(manifest).unwrap();
    assert!(manifest.contains("MODE = \"live\""), "{manifest}");
    let derived = std::fs::read_to_string(root.join("app.toml")).unwrap();
    assert!(derived.ends_with(&manifest), "{derived}");
    assert!(!derived.contains("t0"));
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "rows");
    // Nothing is left of what was on its way in.
    world.nothing_staged().await;
}

#[tokio::test]
async fn five_releases_stay_unless_another_number_is_asked_for() {
    let world = World::new().await;
    let artifact = shop("");
    let mut releases = Vec::new();
    for _ in 0..7 {
        releases.push(artifact.deploy(&world).await.succeed().await);
    }
    assert_eq!(world.names("shop", "releases"), releases[2..]);
    assert_eq!(world.names("shop", "meta"), releases[2..]);
    let last = shop("keep_releases = 2")
        .deploy(&world)
        .await
        .succeed()
        .await;
    let left = world.names("shop", "releases");
    assert_eq!(left, [releases[6].clone(), last]);
}

#[tokio::test]
async fn a_rollback_goes_through_the_same_health_check() {
    let world = World::new().await;
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    let lines = "health = \"/health\"\ndrain = 1";
    let script = |name: &str| {
        format!("test -e \"$VELA_DATA_DIR/no-{name}\" && exit 7; exec '{program}' demo-app")
    };
    for name in ["one", "two"] {
        let artifact = Artifact::script("shop", lines, &script(name));
        artifact.deploy(&world).await;
    }
    let serving = world.status("shop").await;
    // The first one does not come up any more.
    std::fs::write(world.app_dir("shop").join("data/no-one"), "").unwrap();
    let mut rollback = Deploy::roll_back(&world, "shop").await;
    let end = rollback.end().await;
    let Event::Failed { step, error, .. } = end else {
        panic!("{end:?}")
    };
    assert_eq!(step, Some(Step::Health));
    assert!(error.message.contains("code 7"), "{error:?}");
    let after = world.status("shop").await;
    assert_eq!((after.pid, &after.release), (serving.pid, &serving.release));
    assert_eq!(world.current("shop"), serving.release);

    std::fs::remove_file(world.app_dir("shop").join("data/no-one")).unwrap();
    let mut rollback = Deploy::roll_back(&world, "shop").await;
    let release = rollback.succeed().await;
    assert_ne!(Some(&release), serving.release.as_ref());
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&release));
}
