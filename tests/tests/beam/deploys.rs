use vela_cli::demo::load::{Load, LoadOptions, Mark};
use vela_protocol::{Event, Hook, Step};
use vela_tests::{Artifact, Release, World, expect_no_failure, get, processes_of, summary};

use super::{App, Deploy, Duration, expect_unchanged, started, stopped, tmp_has};

const MIGRATION: &str = "pre_start = \"bin/my_app eval 'MyApp.Release.migrate()'\"";

fn load() -> LoadOptions {
    LoadOptions {
        workers: 4,
        rate: 60,
        length: None,
        slow: 2,
        slow_for: Duration::from_millis(200),
        websockets: 0,
        ..LoadOptions::default()
    }
}

#[tokio::test]
async fn deploys_with_migrations_and_a_rollback_fail_no_request() {
    let world = World::new().await;
    let app = App::new().deploy(MIGRATION).deploy("keep_releases = 9");
    let set = ["secret", "set", "--app", &app.name, "TOKEN=t0"];
    world.vela(&set).await.expect(0);
    let artifact = app.artifact();
    let mut deploys = vec![artifact.deploy(&world).await];
    let first = deploys[0].succeed().await;

    let mut load = Load::start(world.http(), &app.host(), load()).unwrap();
    load.mark(Mark::Serves(vec![first.clone()]));
    for _ in 0..3 {
        let deploy = artifact.deploy(&world).await;
        let steps = [Step::Unpack, Step::PreStart, Step::Health, Step::Stop];
        println!("{:?}", steps.map(|step| (step, deploy.took(step))));
        deploy.tell(&mut load);
        deploys.push(deploy);
    }
    let mut rollback = Deploy::roll_back(&world, &app.name).await;
    let back_at = rollback.succeed().await;
    rollback.tell(&mut load);
    let report = load.stop().await.unwrap();
    println!("{}", summary(&report));
    expect_no_failure(&report);
    assert_eq!(report.answers.len(), 4, "{:?}", report.answers);
    assert_eq!(deploys[2].succeed().await, back_at);
    assert_eq!(app.get(&world, "/").await.trim_end(), back_at);

    // Each release was migrated before it was started: as the app, on the port that it got, in the release.
    let mut migrated = Vec::new();
    let mut ended = Vec::new();
    let mut all = Vec::new();
    for deploy in &mut deploys {
        let release = deploy.succeed().await;
        let (instance, port) = started(deploy);
        let dir = world.app_dir(&app.name).join("releases").join(&release);
        migrated.push(format!("{release} {} t0 {}", port, dir.display()));
        let printed = deploy.events().any(|event| {
            matches!(event, Event::HookPrinted { hook: Hook::PreStart, line, .. } if line == "migrating as nonode@nohost")
        });
        assert!(printed, "{deploy:#?}");
        all.push(instance);
        ended.extend(stopped(deploy));
    }
    assert_eq!(app.lines(&world, "migrated"), migrated);
    ended.extend(stopped(&rollback));

    // Each old instance ended by its own way, and all of it had its turn.
    assert_eq!(app.lines(&world, "stopped"), all);
    let expected = all
        .iter()
        .map(|id| (id.clone(), "exited with code 0".to_owned()));
    assert_eq!(ended, expected.collect::<Vec<_>>());
    assert_eq!(app.lines(&world, "jobs"), vec!["terminated"; 4]);

    // What a release writes lies beside it, and goes with the instance.
    expect_unchanged(&world, &app.name);
    tmp_has(&world, &app.name, &[&started(&rollback).0]).await;
    let pid = world.status(&app.name).await.pid.unwrap();
    assert!(processes_of(world.data_dir()).contains(&pid));
    world.vela(&["remove", &app.name, "--yes"]).await.expect(0);
    assert!(!world.app_dir(&app.name).join("tmp").exists());
    assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
}

#[tokio::test]
async fn the_environment_has_what_a_release_needs_unless_it_is_set() {
    let world = World::new().await;
    let app = App::new();
    let deploy = app.serve(&world).await;
    let (instance, port) = started(&deploy);
    let tmp = world.app_dir(&app.name).join("tmp");
    let env = app.environment(&world).await;
    let expected = |name: &str| match name {
        "RELEASE_DISTRIBUTION" => "none".to_owned(),
        "RELEASE_NODE" => format!("my-app-{port}"),
        "RELEASE_TMP" => tmp.join(&instance).display().to_string(),
        "ERL_CRASH_DUMP" => tmp.join("erl_crash.dump").display().to_string(),
        _ => unreachable!(),
    };
    for name in [
        "RELEASE_DISTRIBUTION",
        "RELEASE_NODE",
        "RELEASE_TMP",
        "ERL_CRASH_DUMP",
    ] {
        assert_eq!(env[name], expected(name));
    }
    assert!(!env["HOME"].is_empty() && !env["LANG"].is_empty());
    assert_eq!(app.get(&world, "/node").await, "nonode@nohost");

    // By the manifest and by secrets, as any variable.
    let app = app
        .env("RELEASE_NODE = \"mine-${port}\"")
        .env("RELEASE_TMP = \"${data_dir}/tmp\"");
    for secret in ["ERL_CRASH_DUMP=/dev/null", "LANG=C"] {
        let set = ["secret", "set", "--app", &app.name, secret];
        world.vela(&set).await.expect(0);
    }
    let deploy = app.serve(&world).await;
    let port = started(&deploy).1;
    let env = app.environment(&world).await;
    assert_eq!(env["RELEASE_NODE"], format!("mine-{port}"));
    assert_eq!(env["ERL_CRASH_DUMP"], "/dev/null");
    assert_eq!(env["LANG"], "C");
    tmp_has(&world, &app.name, &[]).await;
    let own = world.app_dir(&app.name).join("data/tmp");
    assert_eq!(env["RELEASE_TMP"], own.display().to_string());
    assert_eq!(std::fs::read_dir(own).unwrap().count(), 1);
}

#[tokio::test]
async fn a_migration_that_raises_stops_the_deploy() {
    let world = World::new().await;
    let app = App::new();
    let mut deploy = app.serve(&world).await;
    let release = deploy.succeed().await;
    let pid = world.status(&app.name).await.pid;
    let broken = App::new().deploy("pre_start = '''bin/my_app eval 'raise \"no such table\"' '''");
    let output = world.deploy(&broken.release()).await.expect(3);
    assert!(output.stderr.contains("no such table"), "{output:?}");
    let last = format!("\n`my-app` still serves {release}\n");
    assert!(output.stderr.ends_with(&last), "{output:?}");
    assert_eq!(world.status(&app.name).await.pid, pid);
    assert_eq!(world.names(&app.name, "releases"), [release]);
    let status = world.status(&app.name).await;
    tmp_has(&world, &app.name, &[&status.instances[0].instance]).await;
}

#[tokio::test]
async fn the_script_is_told_to_start_and_then_the_arguments() {
    let world = World::new().await;
    let manifest = "[app]\nname = \"shop\"\ndomain = \"shop.localhost\"\n[deploy]\ntype = \"beam\"\nbinary = \"run\"\n\
                    args = [\"--port\", \"${port}\", \"a b\"]\nhealth = \"/health\"\n";
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    let script = format!("for arg; do echo \"[$arg]\"; done; exec '{program}' demo-app");
    let release = Release::script(manifest, &script);
    Artifact::of("shop", manifest, &release)
        .deploy(&world)
        .await;
    let port = world.status("shop").await.port.unwrap();
    let logs = world.vela(&["logs", "shop"]).await.expect(0).stdout;
    let args = logs
        .lines()
        .filter_map(|line| Some(line.split_once(" out [")?.1));
    let args: Vec<_> = args.collect();
    assert_eq!(args, ["start]", "--port]", &format!("{port}]"), "a b]"]);
    assert_eq!(get(world.http(), "shop.localhost", "/").await.0, 200);
}
