//! The engine's answers to requests, good and bad, with real processes behind a real proxy.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod support;

use std::time::{Duration, Instant};

use support::{World, all, who};
use uuid::Uuid;
use vela_deploy::{EngineError, Stack};
use vela_protocol::{
    AppState, ErrorCode, Event, Hook, Outcome, ReleaseStatus, RestartRequest, RollbackRequest,
    SecretChange, Serving, Step,
};

const MANIFEST: &str = r#"
[app]
name = "tiny"
domain = "tiny.localhost"
aliases = ["www.tiny.localhost"]
[deploy]
health = "/health"
drain = 1
stop_timeout = 2
"#;

fn with(deploy: &str) -> String {
    format!("{MANIFEST}{deploy}\n")
}

fn rollback(to: Option<&str>) -> RollbackRequest {
    RollbackRequest {
        deploy: Uuid::new_v4(),
        to: to.map(str::to_owned),
        hooks: false,
        client: None,
    }
}

fn restart() -> RestartRequest {
    RestartRequest {
        deploy: Uuid::new_v4(),
        client: None,
    }
}

#[track_caller]
fn succeeded(events: &[Event]) {
    assert!(
        matches!(events.last(), Some(Event::Succeeded { .. })),
        "{events:#?}"
    );
}

#[track_caller]
fn failure(events: &[Event]) -> (Step, vela_protocol::Report, Serving) {
    match events.last() {
        Some(Event::Failed {
            step: Some(step),
            error,
            serving,
            ..
        }) => (*step, error.clone(), serving.clone()),
        _ => panic!("{events:#?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploys_switch_every_host_and_a_rollback_goes_back() {
    let world = World::new(|stack| stack).await;
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let first = world.current().unwrap();
    assert_eq!(world.get("tiny.localhost").await, (200, first.clone()));
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let second = world.current().unwrap();
    assert!(second > first, "ids sort");
    assert_eq!(
        world.get("www.tiny.localhost:80").await,
        (200, second.clone())
    );

    let summaries = world.engine.releases("tiny").await.unwrap();
    let statuses: Vec<_> = summaries
        .iter()
        .map(|one| (one.release.as_str(), one.status))
        .collect();
    assert_eq!(
        statuses,
        [
            (second.as_str(), ReleaseStatus::Current),
            (first.as_str(), ReleaseStatus::Kept)
        ]
    );

    succeeded(
        &all(world
            .engine
            .rollback("tiny", rollback(None), who())
            .await
            .unwrap())
        .await,
    );
    assert_eq!(world.get("tiny.localhost").await, (200, first.clone()));
    let again = world
        .engine
        .rollback("tiny", rollback(None), who())
        .await
        .err()
        .unwrap();
    assert!(
        matches!(again, EngineError::NoPreviousRelease { .. }),
        "{again}"
    );
    let same = world
        .engine
        .rollback("tiny", rollback(Some(&first)), who())
        .await
        .err()
        .unwrap();
    assert!(matches!(same, EngineError::AlreadyCurrent { .. }), "{same}");
    for hostile in ["../x", "20260101-000000", ""] {
        let error = world
            .engine
            .rollback("tiny", rollback(Some(hostile)), who())
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, EngineError::NoSuchRelease { .. }),
            "{error}"
        );
    }
    succeeded(
        &all(world
            .engine
            .rollback("tiny", rollback(Some(&second)), who())
            .await
            .unwrap())
        .await,
    );
    assert_eq!(world.get("tiny.localhost").await, (200, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_exits_is_refused_with_its_last_lines_and_the_old_one_serves() {
    let world = World::new(|stack| stack).await;
    let (step, error, serving) = failure(&world.deploy(MANIFEST, &[("TINY_EXIT", "3")]).await);
    assert_eq!((step, serving), (Step::Health, Serving::Nothing));
    assert_eq!(error.output, ["exiting with 3, as told"]);
    assert_eq!(world.releases(), [] as [String; 0]);

    succeeded(&world.deploy(MANIFEST, &[]).await);
    let current = world.current().unwrap();
    let began = Instant::now();
    let (_, error, serving) = failure(&world.deploy(MANIFEST, &[("TINY_EXIT", "3")]).await);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "an exit ends the wait"
    );
    assert!(error.message.contains("code 3"), "{error}");
    assert_eq!(
        serving,
        Serving::Previous {
            release: current.clone()
        }
    );
    assert_eq!(world.get("tiny.localhost").await, (200, current));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_path_that_fails_is_quoted() {
    let world = World::new(|stack| stack).await;
    let manifest = MANIFEST.replace(
        "health = \"/health\"",
        "health = { path = \"/health\", retries = 2, interval = \"1s\" }",
    );
    let (step, error, _) = failure(&world.deploy(&manifest, &[("TINY_HEALTH", "500")]).await);
    assert_eq!(step, Step::Health);
    assert!(error.to_string().contains("500"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_see_the_environment_and_a_failing_one_stops_the_deploy() {
    let world = World::new(|stack| stack).await;
    let secret = SecretChange {
        set: [("KEY".to_owned(), "s3cret".to_owned())].into(),
        remove: vec![],
    };
    world
        .engine
        .change_secrets("tiny", secret, who())
        .await
        .unwrap();
    let manifest = with(
        "pre_start = \"echo $VELA_APP_NAME $PORT ${#KEY}; pwd; echo made > file\"\npost_deploy = \"cat file; exit 4\"",
    );
    let events = world.deploy(&manifest, &[]).await;
    succeeded(&events);
    let printed = |hook: Hook| -> Vec<String> {
        let line = |event: &Event| match event {
            Event::HookPrinted {
                hook: printed,
                line,
                ..
            } if *printed == hook => Some(line.clone()),
            _ => None,
        };
        events.iter().filter_map(line).collect()
    };
    let port = world.engine.status("tiny").unwrap().port.unwrap();
    let release = world
        .dirs()
        .apps()
        .join("tiny/releases")
        .join(world.current().unwrap());
    assert_eq!(
        printed(Hook::PreStart),
        [format!("tiny {port} 6"), release.display().to_string()]
    );
    assert_eq!(printed(Hook::PostDeploy), ["made"]);
    assert!(events.iter().any(|e| matches!(
        e,
        Event::StepFailed {
            step: Step::PostDeploy,
            ..
        }
    )));

    let failing = with("pre_start = \"echo no; exit 7\"");
    let (step, error, _) = failure(&world.deploy(&failing, &[]).await);
    assert_eq!(
        (step, error.output),
        (Step::PreStart, vec!["no".to_owned()])
    );
    let hanging = with("pre_switch = \"sleep 1000 & sleep 1000\"\nhook_timeout = \"300ms\"")
        .replace("300ms", "1s");
    let (step, error, _) = failure(&world.deploy(&hanging, &[]).await);
    assert_eq!(step, Step::PreSwitch);
    assert!(error.message.contains("did not end"), "{error}");
    assert_eq!(
        world.instances().await.len(),
        1,
        "the hook's tree is gone, and so is the new instance"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operation_at_a_time_and_the_second_is_told_who_and_since_when() {
    let world = World::new(|stack| stack).await;
    let slow = world.upload(&with("pre_start = \"sleep 30\""), &[]).await;
    let mut events = world
        .engine
        .deploy("tiny", slow.clone(), who())
        .await
        .unwrap();
    let other = world.upload(MANIFEST, &[]).await;
    let busy = world
        .engine
        .deploy("tiny", other, who())
        .await
        .err()
        .unwrap();
    assert_eq!(busy.code(), ErrorCode::Busy);
    assert!(
        busy.to_string().contains("deploy by tester since 20"),
        "{busy}"
    );
    let began = Instant::now();
    assert!(world.engine.status("tiny").unwrap().deploying.is_some());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "status does not wait"
    );

    // The same id again is the same operation.
    let same = world.engine.deploy("tiny", slow, who()).await.unwrap();
    while let Some(envelope) = futures::StreamExt::next(&mut events).await {
        if envelope.event
            == (Event::StepStarted {
                step: Step::PreStart,
            })
        {
            break;
        }
    }
    world.engine.cancel("tiny", None, who()).await.unwrap();
    let same = all(same).await;
    assert!(
        matches!(same.last(), Some(Event::Cancelled { .. })),
        "{same:#?}"
    );
    assert_eq!(
        world.engine.history("tiny").await.unwrap()[0].outcome,
        Outcome::Cancelled
    );
    assert_eq!(world.releases(), [] as [String; 0]);
    assert!(matches!(
        world.engine.cancel("tiny", None, who()).await,
        Err(EngineError::NothingToCancel { .. })
    ));
    succeeded(&world.deploy(MANIFEST, &[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_before_anything_is_done() {
    let world = World::new(|stack| stack).await;
    for name in ["../x", "", "A", "a/b", "tiny\n"] {
        let error = world.engine.status(name).err().unwrap();
        assert!(
            matches!(error, EngineError::AppName { .. }),
            "{name:?}: {error}"
        );
    }
    let code = async |manifest: &str| {
        let request = world.upload(manifest, &[]).await;
        world.run(request).await.err().unwrap()
    };
    assert!(matches!(
        code("not toml").await,
        EngineError::Manifest { .. }
    ));
    assert!(matches!(
        code(&MANIFEST.replace("\"tiny\"", "\"other\"")).await,
        EngineError::OtherApp { .. }
    ));
    assert!(matches!(
        code(&with("instances = 2")).await,
        EngineError::NotYetDeployable { .. }
    ));
    let unset = format!("{MANIFEST}\n[env]\nTOKEN = \"${{secret:NOPE}}\"\n");
    assert!(matches!(
        code(&unset).await,
        EngineError::UnsetSecret { .. }
    ));

    let mut request = world.upload(MANIFEST, &[]).await;
    request.sha256 = "zz".into();
    assert!(matches!(
        world.run(request).await,
        Err(EngineError::Digest { .. })
    ));
    let mut request = world.upload(MANIFEST, &[]).await;
    request.upload = Uuid::new_v4();
    assert!(matches!(
        world.run(request).await,
        Err(EngineError::NoSuchUpload { .. })
    ));
    let mut request = world.upload(MANIFEST, &[]).await;
    request.sha256 = "0".repeat(64);
    let (step, ..) = failure(&world.run(request).await.unwrap());
    assert_eq!(step, Step::Unpack);
    assert!(matches!(
        world.engine.attach(Uuid::new_v4(), 0).await.err(),
        Some(EngineError::NoSuchDeploy { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_without_its_entrypoint_is_refused_by_name() {
    let world = World::new(|stack| stack).await;
    let release = tempfile::tempdir().unwrap();
    std::fs::write(release.path().join("tinny"), "#!/bin/sh\n").unwrap();
    let request = world.upload_dir(MANIFEST, release.path()).await;
    let (step, error, _) = failure(&world.run(request).await.unwrap());
    assert_eq!(step, Step::Unpack);
    assert!(error.to_string().contains("tiny"), "{error}");
    std::fs::rename(release.path().join("tinny"), release.path().join("tiny")).unwrap();
    let request = world.upload_dir(MANIFEST, release.path()).await;
    let (_, error, _) = failure(&world.run(request).await.unwrap());
    assert!(error.to_string().contains("execut"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_of_another_app_is_refused() {
    let world = World::new(|stack| stack).await;
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let other =
        "[app]\nname = \"other\"\ndomain = \"www.tiny.localhost\"\n[deploy]\nbinary = \"tiny\"\n";
    let request = world.upload(other, &[]).await;
    let error = world
        .engine
        .deploy("other", request, who())
        .await
        .err()
        .unwrap();
    assert!(
        matches!(&error, EngineError::HostTaken { by, .. } if by == "tiny"),
        "{error}"
    );
    assert_eq!(
        world.engine.apps().len(),
        1,
        "a refused first deploy leaves no app"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_app_answers_503_and_a_start_brings_it_back() {
    let world = World::new(|stack| stack).await;
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let stopped = world.engine.stop("tiny", who()).await.unwrap();
    assert_eq!(stopped.state, AppState::Stopped);
    assert_eq!(world.get("tiny.localhost").await.0, 503);
    assert_eq!(world.instances().await, []);
    succeeded(&all(world.engine.start("tiny", restart(), who()).await.unwrap()).await);
    assert_eq!(
        world.get("tiny.localhost").await,
        (200, world.current().unwrap())
    );
    assert_eq!(
        world.engine.status("tiny").unwrap().state,
        AppState::Running
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_new_secrets_and_a_rollback_the_release_s_own() {
    let world = World::new(|stack| stack).await;
    let set = |value: &str| SecretChange {
        set: [("TINY_HEALTH".to_owned(), value.to_owned())].into(),
        remove: vec![],
    };
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let first = world.current().unwrap();
    // A secret under which the app is not healthy: the restart fails, and the old instance serves.
    world
        .engine
        .change_secrets("tiny", set("500"), who())
        .await
        .unwrap();
    let quick = MANIFEST.replace(
        "health = \"/health\"",
        "health = { path = \"/health\", retries = 1 }",
    );
    let (step, _, serving) = failure(&world.deploy(&quick, &[]).await);
    assert_eq!(
        (step, serving),
        (
            Step::Health,
            Serving::Previous {
                release: first.clone()
            }
        )
    );
    world
        .engine
        .change_secrets("tiny", set("200"), who())
        .await
        .unwrap();
    succeeded(&world.deploy(&quick, &[]).await);
    world
        .engine
        .change_secrets("tiny", set("500"), who())
        .await
        .unwrap();
    let (step, ..) = failure(
        &all(world
            .engine
            .restart("tiny", restart(), who())
            .await
            .unwrap())
        .await,
    );
    assert_eq!(step, Step::Health);
    succeeded(
        &all(world
            .engine
            .rollback("tiny", rollback(None), who())
            .await
            .unwrap())
        .await,
    );
    assert_eq!(world.get("tiny.localhost").await, (200, first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_app_keeps_its_data_until_it_is_purged() {
    let world = World::new(|stack| stack).await;
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let root = world.dirs().apps().join("tiny");
    std::fs::write(root.join("data/precious.db"), "x").unwrap();
    world.engine.remove("tiny", false, who()).await.unwrap();
    assert_eq!(world.get("tiny.localhost").await.0, 404);
    assert!(matches!(
        world.engine.status("tiny"),
        Err(EngineError::NoSuchApp { .. })
    ));
    assert!(root.join("data/precious.db").exists() && !root.join("releases").exists());
    succeeded(&world.deploy(MANIFEST, &[]).await);
    assert!(root.join("data/precious.db").exists());
    world.engine.remove("tiny", true, who()).await.unwrap();
    assert!(!root.exists());
    succeeded(&world.deploy(MANIFEST, &[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_parking_a_sequential_deploy_is_refused() {
    let world = World::new(|stack| Stack {
        park: None,
        ..stack
    })
    .await;
    let request = world.upload(&with("strategy = \"sequential\""), &[]).await;
    assert!(matches!(
        world.run(request).await,
        Err(EngineError::CannotPark { .. })
    ));
    succeeded(&world.deploy(MANIFEST, &[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_instance_is_started_again_and_routed() {
    let world = World::new(|stack| stack).await;
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let before = world.engine.status("tiny").unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(before.pid.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // Held until the new instance serves, but for one that was sent to the dying one.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, _) = world.get("tiny.localhost").await;
        let after = world.engine.status("tiny").unwrap();
        // The route comes before the report.
        if status == 200 && after.state == AppState::Running && after.pid != before.pid {
            assert_eq!(after.restarts, 1);
            break;
        }
        assert!(Instant::now() < deadline, "{status}, {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_on_the_same_directory_is_refused() {
    let world = World::new(|stack| stack).await;
    let proxy = vela_proxy::Proxy::new(vela_proxy::ProxyConfig::default());
    let ports = vela_supervisor::Ports::new(10000..=20000);
    let second = Stack::local(world.dirs(), world.supervisor.clone(), ports, proxy);
    let error = vela_deploy::Engine::open(second).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_goes_to_what_the_current_release_replaced() {
    let world = World::new(|stack| stack).await;
    let mut releases = Vec::new();
    for _ in 0..3 {
        succeeded(&world.deploy(MANIFEST, &[]).await);
        releases.push(world.current().unwrap());
    }
    let back = async || {
        let events = world
            .engine
            .rollback("tiny", rollback(None), who())
            .await
            .unwrap();
        succeeded(&all(events).await);
        world.current().unwrap()
    };
    assert_eq!(back().await, releases[1]);
    // The third was left because it is bad: what replaced the second never goes back to it.
    succeeded(&world.deploy(MANIFEST, &[]).await);
    assert_eq!(back().await, releases[1]);
    assert_eq!(back().await, releases[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_twice_at_once_is_one_deploy() {
    let world = World::new(|stack| stack).await;
    let request = world.upload(MANIFEST, &[]).await;
    let (one, other) = tokio::join!(world.run(request.clone()), world.run(request));
    let (one, other) = (one.unwrap(), other.unwrap());
    succeeded(&one);
    assert_eq!(one, other);
    assert_eq!(world.engine.history("tiny").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_never_stops_printing_is_stopped_and_not_kept() {
    let world = World::new(|stack| stack).await;
    let began = Instant::now();
    let manifest = with("pre_start = \"yes\"\nhook_timeout = 1");
    let events = world.deploy(&manifest, &[]).await;
    let (step, error, _) = failure(&events);
    assert_eq!(step, Step::PreStart);
    assert!(error.message.contains("did not end"), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert!(events.len() < 2100, "{} events", events.len());
    assert_eq!(world.instances().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_deploy_of_an_app_that_is_down_says_so() {
    let world = World::new(|stack| stack).await;
    succeeded(&world.deploy(MANIFEST, &[]).await);
    let current = world.current().unwrap();
    // From now on the release's program exits at once.
    let program = world
        .dirs()
        .apps()
        .join("tiny/releases")
        .join(&current)
        .join("tiny");
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "#!/bin/sh\nexit 9\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let pid = world.engine.status("tiny").unwrap().pid.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    world.until(AppState::Down).await;
    let (_, _, serving) = failure(&world.deploy(MANIFEST, &[("TINY_EXIT", "3")]).await);
    assert_eq!(serving, Serving::Down { release: current });
}
