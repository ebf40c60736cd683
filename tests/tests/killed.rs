//! The daemon is killed before, inside and after the effect of every step, for both strategies. The next daemon
//! finishes what had committed and undoes what had not; the client that was waiting is told the truth.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use futures::StreamExt;
use vela_deploy::failpoint::{Moment, Serves, serves_after};
use vela_protocol::{Outcome, Step};
use vela_tests::{Options, Release, World, get, processes_of};

fn manifest(strategy: &str, step: Step) -> String {
    // Where the step is about services, with one that is quick to have.
    let more = match step {
        Step::Provision => "[services.nats]",
        // What the build makes is the release that other steps are given.
        Step::Build => "[build]\nremote = true\ncommand = \"echo building\"\noutput = \"release\"",
        _ => "",
    };
    format!(
        r#"[app]
name = "shop"
domain = "shop.localhost"
[deploy]
binary = "run"
strategy = "{strategy}"
health = "/health"
drain = 1
stop_timeout = 2
pre_start = "echo before"
pre_switch = "true"
post_deploy = "echo $VELA_RELEASE >> $VELA_DATA_DIR/post_deploy"
{more}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_blue_green() {
    every_point("blue-green").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_sequential() {
    every_point("sequential").await;
}

async fn every_point(strategy: &'static str) {
    let points = Step::ALL
        .into_iter()
        .flat_map(|step| Moment::ALL.map(|moment| (step, moment)));
    let taken = points
        .filter(|(step, moment)| serves_after(*step, *moment, strategy == "sequential").is_some());
    futures::stream::iter(taken)
        .for_each_concurrent(3, |(step, moment)| async move {
            tokio::spawn(one_point(strategy, step, moment))
                .await
                .unwrap();
        })
        .await;
}

async fn one_point(strategy: &'static str, step: Step, moment: Moment) {
    let at = format!("{strategy} {step}:{}", moment.as_str());
    let expected = serves_after(step, moment, strategy == "sequential");
    let mut world = World::with(Options::default()).await;
    let release = Release::demo_app(&manifest(strategy, step), "");
    world.deploy(&release).await.expect(0);
    let old = world.current("shop").unwrap();
    let old_pid = world.status("shop").await.pid.unwrap();

    // A daemon that dies at the point; the app does not notice that its daemon was replaced.
    world.stop_daemon().await;
    let hit = world.dir().join("hit");
    let failpoint = format!("{step}:{}:kill", moment.as_str());
    world
        .start(&[
            ("VELA_FAILPOINT", &failpoint),
            ("VELA_FAILPOINT_HIT", hit.to_str().unwrap()),
        ])
        .await;
    wait_healthy(&world, &at).await;
    assert_eq!(world.status("shop").await.pid, Some(old_pid), "{at}");

    let mut deploy = world.command();
    deploy.args(["deploy", "-m"]).arg(release.manifest());
    match step {
        Step::Build => release.commit(),
        _ => drop(deploy.arg(release.files())),
    }
    let deploy = tokio::spawn(deploy.output());
    assert_eq!(
        world.daemon_ended().await,
        None,
        "{at}: the daemon was not killed"
    );
    assert!(hit.exists(), "{at}: the point was not hit");
    world.start(&[]).await;
    // The command attaches again to what it was waiting for, and says how it ended.
    let output = vela_tests::Output::from(deploy.await.unwrap().unwrap());

    let client = world.client();
    let history = client.history("shop").await.unwrap();
    let served = match expected {
        Some(Serves::New) => {
            assert_eq!(output.code, 0, "{at}: {output:?}");
            assert_eq!(history[0].outcome, Outcome::Succeeded, "{at}");
            let new = world.current("shop").unwrap();
            assert_ne!(new, old, "{at}");
            new
        }
        _ => {
            assert_eq!(output.code, 3, "{at}: {output:?}");
            assert!(
                output
                    .stderr
                    .trim_end()
                    .ends_with(&format!("`shop` still serves {old}")),
                "{at}: {output:?}"
            );
            assert_eq!(history[0].outcome, Outcome::Failed, "{at}");
            assert_eq!(world.current("shop").as_ref(), Some(&old), "{at}");
            assert_eq!(
                world.names("shop", "releases"),
                std::slice::from_ref(&old),
                "{at}: releases"
            );
            assert_eq!(
                world.names("shop", "meta"),
                std::slice::from_ref(&old),
                "{at}: meta"
            );
            old.clone()
        }
    };
    wait_healthy(&world, &at).await;
    let (status, body) = get(world.http(), "shop.localhost", "/").await;
    assert_eq!(status, 200, "{at}: {body}");
    assert!(body.contains(&served), "{at}: {body}");
    let undisturbed = expected == Some(Serves::Old) && strategy == "blue-green";
    if undisturbed {
        assert_eq!(
            world.status("shop").await.pid,
            Some(old_pid),
            "{at}: the old instance was disturbed"
        );
    }

    // post_deploy runs at most once, and not at all for what was undone.
    let ran =
        std::fs::read_to_string(world.app_dir("shop").join("data/post_deploy")).unwrap_or_default();
    let times = ran
        .lines()
        .filter(|line| *line == history[0].release)
        .count();
    match (expected, step) {
        (Some(Serves::Old), _) => assert_eq!(times, 0, "{at}: {ran}"),
        (_, Step::PostDeploy) => assert!(times <= 1, "{at}: {ran}"),
        _ => assert_eq!(times, 1, "{at}: {ran}"),
    }

    let apps = processes_of(world.data_dir());
    assert_eq!(
        apps,
        [world.status("shop").await.pid.unwrap()],
        "{at}: processes"
    );
    let run = std::fs::read_dir(world.data_dir().join("run")).unwrap();
    let instances = run
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .count();
    let servers = usize::from(step == Step::Provision);
    assert_eq!(instances, 1 + servers, "{at}: directories of instances");
    world.nothing_staged().await;
    let began = std::time::Instant::now();
    let logs = || world.names("shop", "logs");
    while logs().iter().any(|name| name.starts_with('.')) {
        assert!(began.elapsed().as_secs() < 60, "{at}: logs of tasks");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    world.deploy(&release).await.expect(0);
    let next = world.current("shop").unwrap();
    assert!(
        get(world.http(), "shop.localhost", "/")
            .await
            .1
            .contains(&next),
        "{at}"
    );
}

/// A daemon answers on its socket before it knows that its apps are healthy.
async fn wait_healthy(world: &World, at: &str) {
    let began = std::time::Instant::now();
    while world.status("shop").await.health.as_deref() != Some("healthy") {
        assert!(
            began.elapsed().as_secs() < 60,
            "{at}: {:?}\n{}",
            world.status("shop").await,
            world.daemon_log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
