//! What clients notice of deploys and crashes while they ask without a pause.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]
#![expect(clippy::print_stdout, reason = "measured numbers, for who wants them")]

use std::time::Duration;

use futures::future::join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use vela_cli::demo::load::{FailureKind, Load, LoadHandle, LoadOptions, Mark};
use vela_protocol::AppState;
use vela_tests::{
    Artifact, Footprint, Options, World, expect_no_failure, kill, processes_of, summary, try_get,
};

const HOST: &str = "shop.localhost";
const DEPLOYS: usize = 50;

/// Short requests, two of three on kept connections, with slow ones and WebSockets beside them.
fn mixed() -> LoadOptions {
    LoadOptions {
        workers: 6,
        rate: 120,
        slow: 3,
        slow_for: Duration::from_millis(300),
        websockets: 3,
        ..LoadOptions::default()
    }
}

/// Every request on a new connection.
fn fresh() -> LoadOptions {
    LoadOptions {
        fresh_every: 1,
        ..kept()
    }
}

/// Every request on a kept connection.
fn kept() -> LoadOptions {
    LoadOptions {
        workers: 6,
        rate: 120,
        fresh_every: 0,
        slow: 0,
        websockets: 0,
        ..LoadOptions::default()
    }
}

fn put_on(world: &World, host: &str, release: &str, options: LoadOptions) -> LoadHandle {
    let mut load = Load::start(world.http(), host, options).unwrap();
    load.mark(Mark::Serves(vec![release.to_owned()]));
    load
}

async fn more_requests(load: &LoadHandle, more: u64) {
    let (wanted, began) = (load.requests() + more, Instant::now());
    while load.requests() < wanted {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the load stands still"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn fifty_deploys_in_a_row_fail_no_request_and_leak_nothing() {
    let world = World::new().await;
    let lines = "health = \"/health\"\ndrain = \"400ms\"\nkeep_releases = 3";
    let shop = Artifact::demo_app("shop", lines, "");
    // As many as are kept, and each kind of request once: what is opened only once is open from here on.
    for _ in 0..3 {
        shop.deploy(&world).await;
    }
    let release = shop.deploy(&world).await.succeed().await;
    let warm_up = put_on(&world, HOST, &release, mixed());
    more_requests(&warm_up, 100).await;
    expect_no_failure(&warm_up.stop().await.unwrap());
    let release = shop.deploy(&world).await.succeed().await;
    let before = Footprint::settled(&world).await;
    println!("{before:?}");

    let mut loads = [mixed(), fresh(), kept()].map(|load| put_on(&world, HOST, &release, load));
    let began = Instant::now();
    for _ in 0..DEPLOYS {
        let deploy = shop.deploy(&world).await;
        loads.iter_mut().for_each(|load| deploy.tell(load));
    }
    let took = began.elapsed();
    println!("{DEPLOYS} deploys in {took:?}, {:?} each", took / 50);
    let (mut requests, mut closed) = (0, 0);
    for load in loads {
        let report = load.stop().await.unwrap();
        println!("{}", summary(&report));
        expect_no_failure(&report);
        assert!(report.answers.len() > DEPLOYS, "{:?}", report.answers);
        requests += report.requests;
        closed += report.websockets.ended;
    }
    println!("{requests} requests, {closed} WebSockets closed by their instance");
    assert!(closed >= 50, "a WebSocket ends with its instance: {closed}");

    // One more without load: the connections that the load left at the proxy were to the instance that it replaces.
    let release = shop.deploy(&world).await.succeed().await;
    before.expect_again(&world).await;
    let status = world.status("shop").await;
    assert_eq!(status.release.as_deref(), Some(&*release));
    assert_eq!(status.restarts, 0, "{status:?}");
    assert_eq!(processes_of(world.data_dir()), Vec::from_iter(status.pid));
    let releases = world.names("shop", "releases");
    assert_eq!(releases.len(), 3, "{releases:?}");
    assert_eq!(releases.last(), Some(&release));
    assert_eq!(world.names("shop", "meta"), releases);
    assert_eq!(world.names("shop", "history").len(), 5 + DEPLOYS + 1);
    assert_eq!(world.names("shop", "logs"), ["hooks", "web.log"]);
    world.nothing_staged().await;
}

#[tokio::test]
async fn a_port_is_given_back_with_its_instance() {
    // One for the old instance, one for the new one, and one that something else may have. No other test's apps get
    // one of these.
    let first_port = 30_100 + u16::try_from(std::process::id() % 800).unwrap() * 3;
    let world = World::with(Options {
        config: format!("first_port = {first_port}\nlast_port = {}", first_port + 2),
        ..Options::default()
    })
    .await;
    // Nothing that would keep a port in TIME_WAIT: the probe closes its connections itself.
    let shop = Artifact::demo_app("shop", "health = { tcp = true }", "");
    let mut ports = Vec::new();
    for _ in 0..12 {
        shop.deploy(&world).await;
        ports.push(world.status("shop").await.port.unwrap());
    }
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() <= 3, "{ports:?}");
}

/// The gap of a sequential deploy lasts at least this long: how long the app takes to listen.
const START: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_sequential_deploy_makes_requests_late_and_fails_none() {
    let lines = "health = \"/health\"\nstrategy = \"sequential\"";
    let shop = Artifact::demo_app(
        "shop",
        lines,
        &format!("--start-delay {}", START.as_millis()),
    );
    sequential(&shop, mixed()).await;
}

/// An app that takes no notice of what it is doing when it is told to stop, as many do.
#[tokio::test]
async fn a_sequential_deploy_of_an_app_that_stops_abruptly_fails_no_request() {
    let lines = "health = \"/health\"\nstrategy = \"sequential\"\nstop_signal = \"KILL\"";
    let shop = Artifact::demo_app(
        "shop",
        lines,
        &format!("--start-delay {}", START.as_millis()),
    );
    // A WebSocket can't end well here.
    let options = LoadOptions {
        websockets: 0,
        ..mixed()
    };
    sequential(&shop, options).await;
}

async fn sequential(shop: &Artifact, options: LoadOptions) {
    let world = World::new().await;
    let release = shop.deploy(&world).await.succeed().await;
    let mut load = put_on(&world, HOST, &release, options);
    more_requests(&load, 100).await;
    for _ in 0..3 {
        let deploy = shop.deploy(&world).await;
        deploy.tell(&mut load);
        more_requests(&load, 50).await;
    }
    let report = load.stop().await.unwrap();
    println!("{}", summary(&report));
    expect_no_failure(&report);
    assert_eq!(report.gaps.len(), 3, "{report:#?}");
    let shortest = report.gaps.iter().map(|gap| gap.ms).min().unwrap();
    assert!(u128::from(shortest) >= START.as_millis(), "{report:#?}");
    // Those that came in a gap were late, and by no more than it.
    let longest = report.gaps.iter().map(|gap| gap.ms).max().unwrap();
    let (late, gap) = (report.latency.max_ms, longest as f64);
    assert!(late > 0.5 * START.as_millis() as f64, "{report:#?}");
    assert!(late < gap + 5000.0, "{report:#?}");
}

#[tokio::test]
async fn a_killed_daemon_is_back_before_clients_give_up_and_its_apps_never_stop() {
    const APPS: [&str; 3] = ["shop", "blog", "mail"];
    const ROUNDS: usize = 5;
    let mut world = World::new().await;
    let lines = "health = \"/health\"\ndrain = 1";
    let artifacts = APPS.map(|app| Artifact::demo_app(app, lines, ""));
    let deploys = join_all(artifacts.iter().map(|artifact| artifact.deploy(&world))).await;
    let mut releases = Vec::new();
    for mut deploy in deploys {
        releases.push(deploy.succeed().await);
    }
    let before = pids_of(&world, &APPS).await;
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        // It goes on through the kill, and fails: nobody listens then. What comes after is judged on its own.
        let crowd = put_on_all(&world, &APPS, &releases).await;
        world.kill_daemon().await;
        assert_eq!(
            sorted(processes_of(world.data_dir())),
            sorted(before.clone())
        );
        let exec = Instant::now();
        world.spawn(&[]);
        let first = join_all(APPS.map(|app| first_answer(&world, app, exec))).await;
        drop(crowd);
        println!("round {round}: from exec to the first 200: {first:?}");
        times.push(*first.iter().max().unwrap());
        judge(put_on_all(&world, &APPS, &releases).await).await;
        assert_eq!(pids_of(&world, &APPS).await, before);
    }
    // Whatever else the machine does, one of the rounds shows what the daemon needs.
    let best = times.iter().min().unwrap();
    assert!(*best < Duration::from_secs(5), "{times:?}");

    // The last daemon is as good as the first.
    let mut loads = put_on_all(&world, &APPS, &releases).await;
    let deploys = join_all(artifacts.iter().map(|artifact| artifact.deploy(&world))).await;
    for (load, deploy) in loads.iter_mut().zip(&deploys) {
        deploy.tell(load);
        more_requests(load, 50).await;
    }
    judge(loads).await;
}

async fn judge(loads: Vec<LoadHandle>) {
    for report in join_all(loads.into_iter().map(LoadHandle::stop)).await {
        expect_no_failure(&report.unwrap());
    }
}

/// A load on each app, under way.
async fn put_on_all(world: &World, apps: &[&str], releases: &[String]) -> Vec<LoadHandle> {
    let loads = apps
        .iter()
        .zip(releases)
        .map(|(app, release)| put_on(world, &format!("{app}.localhost"), release, mixed()));
    let loads: Vec<_> = loads.collect();
    join_all(loads.iter().map(|load| more_requests(load, 50))).await;
    loads
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// The pid of each app.
async fn pids_of(world: &World, apps: &[&str]) -> Vec<u32> {
    let mut pids = Vec::new();
    for app in apps {
        let status = world.status(app).await;
        assert_eq!(status.restarts, 0, "{status:?}");
        pids.push(status.pid.unwrap());
    }
    pids
}

/// From `exec` to the first 200, each try on a connection of its own.
async fn first_answer(world: &World, app: &str, exec: Instant) -> Duration {
    let host = format!("{app}.localhost");
    loop {
        match try_get(world.http(), &host, "/").await {
            Ok((200, _)) => return exec.elapsed(),
            Ok((status, body)) => panic!("{app} answers {status}: {body}"),
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
        let log = || world.daemon_log();
        assert!(
            exec.elapsed() < Duration::from_secs(20),
            "{app} is silent: {}",
            log()
        );
    }
}

/// By when the proxy has surely been told that an instance is dead, on a machine that is busy with other things.
const TOLD: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_app_that_is_killed_is_back_at_once_and_its_clients_wait_for_it() {
    let world = World::new().await;
    // It takes long enough to start that who asks meanwhile either waits or is refused.
    let start = TOLD * 3;
    let args = format!("--start-delay {}", start.as_millis());
    let health = "health = { path = \"/health\", interval = \"100ms\", retries = 300 }";
    let shop = Artifact::demo_app("shop", health, &args);
    let release = shop.deploy(&world).await.succeed().await;
    let options = LoadOptions {
        websockets: 0,
        ..mixed()
    };
    let mut witnesses = put_on(&world, HOST, &release, options.clone());
    more_requests(&witnesses, 200).await;
    let old = world.status("shop").await.pid.unwrap();
    witnesses.mark(Mark::GapBegins);
    let killed = Instant::now();
    kill(old, Signal::KILL);
    sleep(TOLD).await;
    let mut late = put_on(&world, HOST, &release, options);
    late.mark(Mark::GapBegins);
    let new = loop {
        let status = world.status("shop").await;
        match status.pid {
            Some(pid) if pid != old && status.state == AppState::Running => break status,
            _ => assert!(killed.elapsed() < Duration::from_secs(60), "{status:?}"),
        }
        sleep(Duration::from_millis(2)).await;
    };
    println!(
        "back after {:?}, of which {start:?} to start",
        killed.elapsed()
    );
    assert_eq!(new.restarts, 1, "{new:?}");
    assert_eq!(new.release.as_deref(), Some(&*release));
    assert_eq!(processes_of(world.data_dir()), Vec::from_iter(new.pid));
    more_requests(&late, 50).await;
    for load in [&mut late, &mut witnesses] {
        load.mark(Mark::GapEnds);
    }
    more_requests(&late, 200).await;

    // Who came while it started has waited, and was refused nothing.
    let report = late.stop().await.unwrap();
    println!("came later: {}", summary(&report));
    expect_no_failure(&report);
    let longest = report.latency.max_ms;
    assert!(
        longest > TOLD.as_millis() as f64,
        "nobody has waited: {report:#?}"
    );
    // Who was there has lost what was in flight, and what was sent before the proxy was told.
    let report = witnesses.stop().await.unwrap();
    println!("were there: {}", summary(&report));
    for failure in &report.failures {
        println!("{failure}");
        let is_excused = match failure.kind {
            FailureKind::Status => failure.detail.contains("502"),
            FailureKind::Lost | FailureKind::Silence => true,
            _ => false,
        };
        assert!(is_excused, "{failure}");
    }
    shop.deploy(&world).await;
}
