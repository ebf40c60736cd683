//! What is under way when something happens: long requests at a switch, instances that die during a deploy, the
//! daemon's own end.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]
#![expect(clippy::print_stdout, reason = "measured numbers, for who wants them")]

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use vela_cli::demo::load::{Load, LoadHandle, LoadOptions, Mark};
use vela_protocol::{AppState, AppStatus, Event, Serving, Step};
use vela_tests::{
    Artifact, Deploy, Long, World, expect_no_failure, get, is_alive, kill, processes_of, summary,
};

const HOST: &str = "shop.localhost";

/// How a WebSocket ends whose server goes away: a close with code 1001.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xE9];

/// Short requests only, so that every instance drains at once.
fn put_on(world: &World, app: &str, release: &str) -> LoadHandle {
    let options = LoadOptions {
        workers: 6,
        rate: 120,
        slow: 0,
        websockets: 0,
        ..LoadOptions::default()
    };
    let host = format!("{app}.localhost");
    let mut load = Load::start(world.http(), &host, options).unwrap();
    load.mark(Mark::Serves(vec![release.to_owned()]));
    load
}

async fn judge(mut load: LoadHandle, deploys: &[&Deploy]) -> f64 {
    deploys.iter().for_each(|deploy| deploy.tell(&mut load));
    let report = load.stop().await.unwrap();
    println!("{}", summary(&report));
    expect_no_failure(&report);
    report.latency.p99_ms
}

/// A file by which a test and an app's commands tell each other how far they are.
fn flag(world: &World, name: &str) -> PathBuf {
    world.app_dir("shop").join("data").join(name)
}

/// A command that says that it has begun, and goes on when it may.
fn waits_for(go: &str) -> String {
    format!(
        "touch $VELA_DATA_DIR/{go}-began; until test -e $VELA_DATA_DIR/{go}; do sleep 0.02; done"
    )
}

async fn status_when(world: &World, wanted: impl Fn(&AppStatus) -> bool) -> AppStatus {
    let began = Instant::now();
    loop {
        let status = world.status("shop").await;
        if wanted(&status) {
            return status;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{status:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until this is the one process of an app: a command that probes it may just be ending.
async fn alone(world: &World, pid: u32) {
    let began = Instant::now();
    loop {
        let left = processes_of(world.data_dir());
        if left == [pid] {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{left:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn drained(deploy: &Deploy) -> usize {
    let left = deploy.events().find_map(|event| match event {
        Event::Drained { left } => Some(*left),
        _ => None,
    });
    left.unwrap_or_else(|| panic!("nothing was drained: {deploy:#?}"))
}

#[tokio::test]
async fn long_requests_cost_nobody_else_anything_and_end_at_the_drain_deadline() {
    let world = World::new().await;
    let shop = Artifact::demo_app("shop", "health = \"/health\"\ndrain = 6", "");
    let mail = Artifact::demo_app("mail", "health = \"/health\"\ndrain = 60", "");
    let old = shop.deploy(&world).await.succeed().await;
    let old_mail = mail.deploy(&world).await.succeed().await;
    let load = put_on(&world, "shop", &old);
    let mail_load = put_on(&world, "mail", &old_mail);

    let (asked, asked_at) = (Instant::now(), SystemTime::now());
    let slow = Long::get(world.http(), HOST, "/slow?ms=4000").await;
    let mail_slow = Long::get(world.http(), "mail.localhost", "/slow?ms=4000").await;
    let mut events = Long::get(world.http(), HOST, "/sse?ms=600000").await;
    // Two ticks: the slow requests, which were sent before, are with their instances by then.
    events.until(b"data: ").await;
    let mut socket = Long::websocket(world.http(), HOST, "/ws").await;
    socket.until(b"tick 1").await;

    let (mut deploy, mut mail_deploy) = tokio::join!(shop.begin(&world), mail.begin(&world));
    let (slow, mail_slow, events, socket, new, _) = tokio::join!(
        slow.end(),
        mail_slow.end(),
        events.end(),
        socket.end(),
        deploy.succeed(),
        mail_deploy.succeed()
    );
    println!("all ended after {:?}", asked.elapsed());

    for (slow, old) in [(slow, &old), (mail_slow, &old_mail)] {
        let text = slow.text();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(text.contains(&format!("x-release: {old}")), "{text}");
        assert!(text.ends_with(".\n"), "{text}");
    }
    // The one app had nothing else to wait for, and did not wait any longer.
    assert_eq!(drained(&mail_deploy), 0);
    let (short, long) = (mail_deploy.took(Step::Drain), deploy.took(Step::Drain));
    println!("drained for {short:?} and {long:?}");
    assert!(short < Duration::from_secs(30), "{short:?}");
    // However late it was when it began to wait; the clock may be set a little meanwhile.
    let slow_until = asked_at + Duration::from_millis(3900);
    let told = mail_deploy.began(Step::Stop);
    assert!(told >= slow_until, "not waited for: {mail_deploy:#?}");
    // The other one waited as long as it may; what was left ended when its instance was told to stop, and well.
    assert_eq!(drained(&deploy), 2);
    assert!(long >= Duration::from_secs(6), "{long:?}");
    let told = deploy.began(Step::Stop);
    assert!(events.at >= told && socket.at >= told, "{deploy:#?}");
    assert!(!events.reset && !socket.reset);
    assert!(events.text().ends_with("0\r\n\r\n"), "{}", events.text());
    assert!(socket.received.ends_with(&GOING_AWAY), "{}", socket.text());

    assert!(get(world.http(), HOST, "/").await.1.starts_with(&new));
    for (load, deploy) in [(load, &deploy), (mail_load, &mail_deploy)] {
        let p99 = judge(load, &[deploy]).await;
        assert!(p99 < 4000.0, "others have waited: {p99} ms");
    }
}

#[tokio::test]
async fn streams_that_have_a_time_of_their_own_are_ended_in_it() {
    let world = World::new().await;
    let lines = "health = \"/health\"\ndrain = 60\n[proxy]\nstream_drain = \"2s\"";
    let shop = Artifact::demo_app("shop", lines, "");
    shop.deploy(&world).await;
    let mut events = Long::get(world.http(), HOST, "/sse?ms=600000").await;
    events.until(b"data: ").await;
    let mut socket = Long::websocket(world.http(), HOST, "/ws").await;
    socket.until(b"tick 1").await;
    let mut deploy = shop.begin(&world).await;
    let (events, socket, _) = tokio::join!(events.end(), socket.end(), deploy.succeed());
    assert_eq!(drained(&deploy), 0);
    let long = deploy.took(Step::Drain);
    assert!(long >= Duration::from_secs(1), "{long:?}");
    assert!(long < Duration::from_secs(30), "{long:?}");
    // The clients come back: the events are cut short, and the app has not said good-bye.
    assert!(!events.reset && !socket.reset);
    assert!(!events.text().ends_with("0\r\n\r\n"), "{}", events.text());
    assert!(!socket.received.ends_with(&GOING_AWAY), "{}", socket.text());
}

#[tokio::test]
async fn the_server_answers_at_once_while_an_app_drains() {
    let world = World::new().await;
    let lines = "health = \"/health\"\ndrain = 600";
    let shop = Artifact::demo_app("shop", lines, "");
    let mail = Artifact::demo_app("mail", lines, "");
    shop.deploy(&world).await;
    mail.deploy(&world).await;
    let mut events = Long::get(world.http(), HOST, "/sse?ms=600000").await;
    events.until(b"data: ").await;
    let mut deploy = shop.begin(&world).await;
    deploy.reach(Step::Drain).await;

    for command in [
        &["status", "mail", "--json"][..],
        &["status", "shop", "--json"],
        &["apps", "--json"],
        &["releases", "shop"],
        &["history", "shop"],
        &["logs", "shop"],
    ] {
        let began = Instant::now();
        world.vela(command).await.expect(0);
        println!("vela {command:?}: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(60));
    }
    // Another app is deployed meanwhile, from its first step to its last.
    let began = Instant::now();
    mail.deploy(&world).await;
    println!("deploy of another app: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(120));
    let status = world.status("shop").await;
    assert_eq!(status.state, AppState::Running, "{status:?}");
    let step = status.deploying.and_then(|deploying| deploying.step);
    assert_eq!(step, Some(Step::Drain), "it went on draining all the time");

    drop(events);
    deploy.succeed().await;
    assert_eq!(drained(&deploy), 0);
}

#[tokio::test]
async fn an_old_instance_that_dies_during_a_hook_is_replaced_at_once() {
    dies_during(
        Step::PreStart,
        &format!("pre_start = \"{}\"\nhealth = \"/health\"", waits_for("go")),
    )
    .await;
}

#[tokio::test]
async fn an_old_instance_that_dies_during_the_health_check_is_replaced_at_once() {
    let health = "health = { exec = \"touch $VELA_DATA_DIR/go-began; test -e $VELA_DATA_DIR/go\", retries = 600 }";
    dies_during(Step::Health, health).await;
}

/// The new release waits in `step` for the file `go`; meanwhile the old instance is killed.
async fn dies_during(step: Step, lines: &str) {
    let world = World::new().await;
    let first = Artifact::demo_app("shop", "health = \"/health\"", "");
    let old_release = first.deploy(&world).await.succeed().await;
    let old = world.status("shop").await.pid.unwrap();
    let mut deploy = Artifact::demo_app("shop", lines, "").begin(&world).await;
    deploy.reach(step).await;
    while !flag(&world, "go-began").exists() {
        sleep(Duration::from_millis(5)).await;
    }

    let killed = Instant::now();
    kill(old, Signal::KILL);
    let is_back = |status: &AppStatus| {
        status.state == AppState::Running && status.pid.is_some_and(|pid| pid != old)
    };
    let status = status_when(&world, is_back).await;
    println!("back after {:?}, during {step}", killed.elapsed());
    assert_eq!(status.release.as_deref(), Some(&*old_release));
    assert_eq!(status.restarts, 1);
    assert_eq!(
        status.deploying.unwrap().step,
        Some(step),
        "the deploy waits"
    );
    let load = put_on(&world, "shop", &old_release);
    assert!(
        get(world.http(), HOST, "/")
            .await
            .1
            .starts_with(&old_release)
    );

    while load.requests() < 50 {
        sleep(Duration::from_millis(5)).await;
    }
    std::fs::write(flag(&world, "go"), "").unwrap();
    let new_release = deploy.succeed().await;
    let told = deploy
        .events()
        .any(|event| matches!(event, Event::InstanceRestarted { .. }));
    assert!(told, "{deploy:#?}");
    assert!(
        get(world.http(), HOST, "/")
            .await
            .1
            .starts_with(&new_release)
    );
    judge(load, &[&deploy]).await;
    assert!(
        !is_alive(status.pid.unwrap()),
        "the restarted one is stopped"
    );
    let now = world.status("shop").await;
    alone(&world, now.pid.unwrap()).await;
}

#[tokio::test]
async fn a_new_instance_that_dies_before_the_switch_fails_the_deploy() {
    let world = World::new().await;
    let first = Artifact::demo_app("shop", "health = \"/health\"", "");
    let old_release = first.deploy(&world).await.succeed().await;
    let old = world.status("shop").await.pid.unwrap();
    let load = put_on(&world, "shop", &old_release);
    let lines = format!("health = \"/health\"\npre_switch = \"{}\"", waits_for("go"));
    let mut deploy = Artifact::demo_app("shop", &lines, "").begin(&world).await;
    let started = |event: &Event| match event {
        Event::InstanceStarted { pid, instance, .. } => Some((*pid, instance.clone())),
        _ => None,
    };
    let (new, instance) = deploy.until("an instance", started).await;
    deploy.reach(Step::PreSwitch).await;
    while !flag(&world, "go-began").exists() {
        sleep(Duration::from_millis(5)).await;
    }

    kill(new, Signal::KILL);
    // The daemon knows of it when it has removed this.
    while world.data_dir().join("run").join(&instance).exists() {
        sleep(Duration::from_millis(5)).await;
    }
    std::fs::write(flag(&world, "go"), "").unwrap();
    let end = deploy.end().await;
    let Event::Failed {
        step,
        serving,
        error,
        ..
    } = &end
    else {
        panic!("{deploy:#?}");
    };
    println!("{step:?}: {error}");
    assert_eq!(
        *serving,
        Serving::Previous {
            release: old_release.clone()
        }
    );
    let switched = Event::StepStarted { step: Step::Commit };
    assert!(
        deploy.events().all(|event| *event != switched),
        "{deploy:#?}"
    );
    let status = world.status("shop").await;
    assert_eq!(status.pid, Some(old), "{status:?}");
    assert_eq!(status.release, Some(old_release.clone()));
    assert_eq!(world.current("shop"), Some(old_release.clone()));
    assert_eq!(processes_of(world.data_dir()), [old]);
    assert_eq!(world.names("shop", "releases"), [old_release]);
    judge(load, &[&deploy]).await;
}

#[tokio::test]
async fn a_daemon_that_is_told_to_stop_finishes_and_leaves_the_apps_to_the_next() {
    let mut world = World::new().await;
    let shop = Artifact::demo_app("shop", "health = \"/health\"", "");
    let release = shop.deploy(&world).await.succeed().await;
    let pid = world.status("shop").await.pid.unwrap();
    let slow = Long::get(world.http(), HOST, "/slow?ms=2500").await;
    // It would go on for ten minutes.
    let mut events = Long::get(world.http(), HOST, "/sse?ms=600000").await;
    // Two ticks: the slow request, which was sent before, is with its instance by then.
    events.until(b"data: ").await;

    let told = Instant::now();
    let (code, slow, events) = tokio::join!(world.stop_daemon(), slow.end(), events.end());
    println!("the daemon stopped after {:?}", told.elapsed());
    assert_eq!(code, Some(0), "{}", world.daemon_log());
    let text = slow.text();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(text.ends_with(".\n"), "it was not finished: {text}");
    assert!(!events.reset);
    assert_eq!(processes_of(world.data_dir()), [pid]);

    let stops_apps = [("VELA_STOP_APPS", "true")];
    world.start(&stops_apps).await;
    let status = status_when(&world, |status| status.state == AppState::Running).await;
    assert_eq!((status.pid, status.restarts), (Some(pid), 0), "{status:?}");
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&release));

    assert_eq!(world.stop_daemon().await, Some(0), "{}", world.daemon_log());
    assert!(!is_alive(pid));
    assert_eq!(processes_of(world.data_dir()), [0; 0]);

    // It was the daemon that was to stop, not the app for good.
    world.start(&[]).await;
    let status = status_when(&world, |status| status.state == AppState::Running).await;
    assert_eq!(status.release.as_deref(), Some(&*release), "{status:?}");
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&release));
}

#[tokio::test]
async fn a_daemon_that_stops_before_its_apps_have_proved_healthy_leaves_them_alone() {
    let mut world = World::new().await;
    let health = "health = { exec = \"test ! -e $VELA_DATA_DIR/sick\", interval = \"100ms\", retries = 1000 }";
    let release = Artifact::demo_app("shop", health, "")
        .deploy(&world)
        .await
        .succeed()
        .await;
    let pid = world.status("shop").await.pid.unwrap();
    assert_eq!(world.stop_daemon().await, Some(0), "{}", world.daemon_log());
    std::fs::write(flag(&world, "sick"), "").unwrap();
    world.start(&[]).await;
    assert_eq!(world.status("shop").await.state, AppState::Starting);
    assert_eq!(world.stop_daemon().await, Some(0), "{}", world.daemon_log());
    alone(&world, pid).await;

    std::fs::remove_file(flag(&world, "sick")).unwrap();
    world.start(&[]).await;
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&release));
    assert_eq!(world.status("shop").await.pid, Some(pid));
}
