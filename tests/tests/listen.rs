//! Apps that listen elsewhere than on 127.0.0.1: all that is done to an app is done to them too.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::net::{Ipv6Addr, TcpListener};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vela_cli::demo::load::{Load, LoadHandle, LoadOptions, Mark};
use vela_protocol::{AppState, AppStatus};
use vela_tests::{Artifact, Deploy, Release, World, expect_no_failure, get, processes_of};

const HOST: &str = "shop.localhost";

/// The manifest of `shop`, with these lines in `[app]` and `[deploy]`.
fn manifest(app: &str, deploy: &str) -> String {
    format!(
        "[app]\nname = \"shop\"\ndomain = \"{HOST}\"\n{app}\n\n[deploy]\nbinary = \"run\"\ndrain = 5\nstop_timeout = 3\n{deploy}\n"
    )
}

fn artifact(app: &str, deploy: &str, args: &str) -> Artifact {
    let manifest = manifest(app, deploy);
    Artifact::of("shop", &manifest, &Release::demo_app(&manifest, args))
}

/// Short requests, two of three on kept connections, and slow ones.
fn put_on(world: &World, release: &str) -> LoadHandle {
    let options = LoadOptions {
        workers: 4,
        rate: 80,
        slow: 2,
        slow_for: Duration::from_millis(300),
        websockets: 0,
        ..LoadOptions::default()
    };
    let mut load = Load::start(world.http(), HOST, options).unwrap();
    load.mark(Mark::Serves(vec![release.to_owned()]));
    load
}

async fn more_requests(load: &LoadHandle) {
    let (wanted, began) = (load.requests() + 30, Instant::now());
    while load.requests() < wanted {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the load stands still"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the app runs, as another process than `old`.
async fn running(world: &World, old: Option<u32>) -> AppStatus {
    let began = Instant::now();
    loop {
        let status = world.status("shop").await;
        if status.state == AppState::Running && (old.is_none() || status.pid != old) {
            return status;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{status:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Deploys, restarts and rolls back under load, then kills the daemon, then the app. `expect` looks at each instance
/// that serves.
async fn lives(shop: &Artifact, expect: impl Fn(&World, &AppStatus)) {
    let mut world = World::new().await;
    let first = shop.deploy(&world).await.succeed().await;
    expect(&world, &world.status("shop").await);
    let mut load = put_on(&world, &first);
    more_requests(&load).await;
    for _ in 0..3 {
        let deploy = shop.deploy(&world).await;
        deploy.tell(&mut load);
        more_requests(&load).await;
        expect(&world, &world.status("shop").await);
    }
    let before = world.status("shop").await.pid;
    world.vela(&["restart", "shop"]).await.expect(0);
    more_requests(&load).await;
    assert_ne!(world.status("shop").await.pid, before);
    expect(&world, &world.status("shop").await);
    let mut rollback = Deploy::roll_back(&world, "shop").await;
    let release = rollback.succeed().await;
    rollback.tell(&mut load);
    more_requests(&load).await;
    expect_no_failure(&load.stop().await.unwrap());

    // A new daemon adopts the instance, and serves by it.
    let before = world.status("shop").await;
    for _ in 0..2 {
        world.kill_daemon().await;
        assert_eq!(processes_of(world.data_dir()), Vec::from_iter(before.pid));
        world.start(&[]).await;
        let status = running(&world, None).await;
        assert_eq!(status.pid, before.pid);
        expect(&world, &status);
        let load = put_on(&world, &release);
        more_requests(&load).await;
        expect_no_failure(&load.stop().await.unwrap());
    }

    // It is started again where it crashed, and where nothing was there to see it.
    let pid = before.pid.unwrap();
    vela_tests::kill(pid, rustix::process::Signal::KILL);
    let status = running(&world, Some(pid)).await;
    expect(&world, &status);
    world.kill_daemon().await;
    let pid = status.pid.unwrap();
    vela_tests::kill(pid, rustix::process::Signal::KILL);
    world.start(&[]).await;
    let status = running(&world, Some(pid)).await;
    expect(&world, &status);
    let load = put_on(&world, &release);
    more_requests(&load).await;
    let mut load_of_deploy = load;
    let deploy = shop.deploy(&world).await;
    deploy.tell(&mut load_of_deploy);
    more_requests(&load_of_deploy).await;
    expect_no_failure(&load_of_deploy.stop().await.unwrap());
    let status = world.status("shop").await;
    expect(&world, &status);
    assert_eq!(processes_of(world.data_dir()), Vec::from_iter(status.pid));
}

/// Whether this machine has it. Where it has not, nothing can listen there.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn expect_ipv6(_: &World, status: &AppStatus) {
    let wanted = format!("[::1]:{}", status.port.unwrap());
    assert_eq!(status.instances[0].address.as_ref(), Some(&wanted));
}

#[tokio::test]
async fn an_app_on_ipv6_is_deployed_adopted_and_rolled_back() {
    if !has_ipv6() {
        return;
    }
    for health in ["health = \"/health\"", "health = { tcp = true }"] {
        let shop = artifact("listen = \"::1\"", health, "--listen ::1");
        lives(&shop, expect_ipv6).await;
    }
}

#[tokio::test]
async fn an_app_on_ipv6_takes_over_from_one_on_ipv4_and_back() {
    if !has_ipv6() {
        return;
    }
    for strategy in ["blue-green", "sequential"] {
        let deploy = format!("health = \"/health\"\nstrategy = \"{strategy}\"");
        let world = World::new().await;
        let v4 = artifact("", &deploy, "");
        let v6 = artifact("listen = \"::1\"", &deploy, "--listen ::1");
        let first = v4.deploy(&world).await.succeed().await;
        let mut load = put_on(&world, &first);
        more_requests(&load).await;
        v6.deploy(&world).await.tell(&mut load);
        more_requests(&load).await;
        expect_ipv6(&world, &world.status("shop").await);
        let mut rollback = Deploy::roll_back(&world, "shop").await;
        assert_eq!(rollback.succeed().await, first);
        rollback.tell(&mut load);
        more_requests(&load).await;
        let status = world.status("shop").await;
        let address = format!("127.0.0.1:{}", status.port.unwrap());
        assert_eq!(status.instances[0].address, Some(address));
        expect_no_failure(&load.stop().await.unwrap());
    }
}

#[tokio::test]
async fn an_app_that_listens_elsewhere_is_told_where_and_what_helps() {
    if !has_ipv6() {
        return;
    }
    let world = World::new().await;
    let health = "health = { path = \"/health\", retries = 3 }";
    let release = Release::demo_app(&manifest("", health), "--listen ::1");
    let output = world.deploy(&release).await.expect(1);
    for said in [
        "hint: the app listens on [::1]:",
        ", and not on 127.0.0.1:",
        "set listen = \"::1\" in [app]\n",
    ] {
        assert!(output.stderr.contains(said), "{output:?}");
    }
    release.set_manifest(&manifest("listen = \"::1\"", health));
    world.deploy(&release).await.expect(0);
    assert_eq!(get(world.http(), HOST, "/").await.0, 200);

    let v4 = Release::demo_app(&manifest("listen = \"::1\"", health), "");
    let output = world.deploy(&v4).await.expect(3);
    for said in [
        "hint: the app listens on 127.0.0.1:",
        ", and not on [::1]:",
        "leave out `listen` in [app]\n",
    ] {
        assert!(output.stderr.contains(said), "{output:?}");
    }
}
