//! Deploys and rollbacks, by each way to a daemon.

use std::time::Duration;

use vela_cli::demo::load::{Load, LoadHandle, LoadOptions, Mark};
use vela_protocol::{Envelope, Event, Outcome};
use vela_tests::{Output, Relay, Sshd, SshdOptions, World, expect_no_failure, get, summary};

use super::paused::Paused;
use super::{HOST, NO_FORWARDING, apps, released, shop, sshd};

/// The events that a command printed, and its release.
#[track_caller]
fn events(output: Output) -> (Vec<Envelope>, String) {
    let output = output.expect(0);
    assert_eq!(output.stderr, "");
    let events: Vec<Envelope> = (output.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    match events.last().map(|last| last.event.clone()) {
        Some(Event::Succeeded { release, .. }) => (events, release),
        _ => panic!("{output:?}"),
    }
}

async fn more_requests(load: &LoadHandle, more: u64) {
    let (wanted, began) = (load.requests() + more, tokio::time::Instant::now());
    while load.requests() < wanted {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the load stands still"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_app_is_deployed_twice_and_rolled_back_under_load() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let relay = Relay::before(sshd.port()).await;
    sshd.reach_by(relay.port());
    let release = shop(&sshd.address(&world.socket()), "");

    // What the manifest calls its server is all that the user has said.
    let v1 = released(sshd.deploy(&release).await);
    assert_eq!(world.current("shop").as_ref(), Some(&v1));
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&v1));
    assert_eq!(relay.connections(), 1, "one login is enough for a deploy");
    let history = world.client().history("shop").await.unwrap();
    assert_eq!(history[0].by.user, sshd.user());

    let options = LoadOptions {
        workers: 6,
        rate: 120,
        slow: 3,
        slow_for: Duration::from_millis(300),
        websockets: 3,
        ..LoadOptions::default()
    };
    let mut load = Load::start(world.http(), HOST, options).unwrap();
    load.mark(Mark::Serves(vec![v1.clone()]));
    more_requests(&load, 100).await;
    let deploy = sshd.finish(sshd.deploying(&release).arg("--json")).await;
    let (deploy, v2) = events(deploy);
    assert!(v1 < v2);
    more_requests(&load, 100).await;
    let manifest = release.manifest();
    let rollback = ["rollback", "--json", "-m", manifest.to_str().unwrap()];
    let (rollback, back) = events(sshd.vela(&rollback).await);
    assert_eq!(back, v1);
    more_requests(&load, 100).await;
    let events = deploy.iter().chain(&rollback);
    events.for_each(|envelope| load.observe(envelope));
    let report = load.stop().await.unwrap();
    println!("{}", summary(&report));
    expect_no_failure(&report);
    assert!(report.answers.contains_key(&v2), "{:?}", report.answers);
    assert_eq!(world.current("shop").as_ref(), Some(&v1));
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&v1));
    assert_eq!(relay.connections(), 3);
}

/// Every way in, and every way to name the server, does for a whole deploy.
#[tokio::test]
async fn a_server_that_forwards_to_no_sockets_is_joined() {
    let (world, sshd) = (World::new().await, sshd(NO_FORWARDING));
    let release = shop(&sshd.address(&world.socket()), "");
    let v1 = released(sshd.deploy(&release).await);
    let v2 = released(sshd.deploy(&release).await);
    assert_eq!(world.current("shop"), Some(v2));
    let manifest = release.manifest();
    let rollback = ["rollback", "-m", manifest.to_str().unwrap()];
    assert_eq!(released(sshd.vela(&rollback).await), v1);
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&v1));
}

#[tokio::test]
async fn an_alias_alone_is_the_daemon_of_its_machine() {
    let world = World::new().await;
    // Forwarding would be to the socket of a daemon that this machine may have for real.
    let sshd = Sshd::with(SshdOptions {
        config: NO_FORWARDING.to_owned(),
        socket: Some(world.socket()),
        ..SshdOptions::default()
    });
    let v1 = released(sshd.deploy(&shop("prod", "")).await);
    assert_eq!(world.current("shop"), Some(v1));
}

#[tokio::test]
async fn a_server_is_named_by_user_host_port_and_socket() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let server = format!(
        "ssh://{}@127.0.0.1:{}{}",
        sshd.user(),
        sshd.port(),
        world.socket().display()
    );
    let v1 = released(sshd.deploy(&shop(&server, "")).await);
    assert_eq!(world.current("shop"), Some(v1.clone()));
    let status = ["status", "shop", "--json", "-s", &server];
    let status = sshd.vela(&status).await.expect(0).json();
    assert_eq!(status[0]["release"], v1.as_str());
}

#[tokio::test]
async fn the_systems_ssh_does_as_well() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let release = shop(&sshd.address(&world.socket()), "");
    let system = async |command: &mut tokio::process::Command| {
        sshd.finish(command.env("VELA_SSH", "system")).await
    };
    let v1 = released(system(&mut sshd.deploying(&release)).await);
    let v2 = released(system(&mut sshd.deploying(&release)).await);
    assert_eq!(world.current("shop"), Some(v2));
    let manifest = release.manifest();
    let mut rollback = sshd.command();
    rollback.args(["rollback", "-m", manifest.to_str().unwrap()]);
    assert_eq!(released(system(&mut rollback).await), v1);
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&v1));

    // It trusts nobody either.
    std::fs::write(sshd.known_hosts(), "").unwrap();
    let server = sshd.address(&world.socket());
    let refused = system(sshd.command().args(["apps", "-s", &server])).await;
    super::expect_unreachable(refused, "`ssh` did not reach prod", "`ssh prod`");
    assert_eq!(std::fs::read_to_string(sshd.known_hosts()).unwrap(), "");
}

#[tokio::test]
async fn a_failed_deploy_exits_as_it_does_nearby() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let release = shop(&sshd.address(&world.socket()), "");
    release.write("run", "#!/bin/sh\necho no database >&2\nexit 7\n");
    let first = sshd.deploy(&release).await.expect(1);
    assert!(first.stderr.contains("  | no database\n"), "{first:?}");
    assert!(
        first
            .stderr
            .ends_with("\n`shop` serves nothing, as before\n"),
        "{first:?}"
    );
    let good = shop(&sshd.address(&world.socket()), "");
    let v1 = released(sshd.deploy(&good).await);
    let second = sshd.deploy(&release).await.expect(3);
    assert!(
        second
            .stderr
            .ends_with(&format!("\n`shop` still serves {v1}\n")),
        "{second:?}"
    );
    apps(&sshd, &world).await.expect(0);
}

#[tokio::test]
async fn ctrl_c_undoes_a_deploy_over_the_same_connection() {
    for config in ["", NO_FORWARDING] {
        let paused = Paused::new(config, "").await;
        let deploy = paused.begin().await;
        deploy.interrupt();
        let output = deploy.end().await.expect(130);
        let last = format!("\n`shop` still serves {}\n", paused.v1);
        assert!(output.stderr.ends_with(&last), "{output:?}");
        assert_eq!(paused.relay.connections(), 2);
        let history = paused.world.client().history("shop").await.unwrap();
        assert_eq!(history[0].outcome, Outcome::Cancelled);
    }
}
