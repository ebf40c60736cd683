//! Interrupted anywhere, the next call completes it.

use std::fs;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::timeout;
use vela_services::{Bindings, Provisioner, Runner, ServiceSpec};

use crate::world::{World, app, kill, one, owner, polled, server, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_provisioning_that_is_dropped_anywhere_goes_on() {
    // After so many steps: from before anything happened to after the end.
    for steps in [1, 2, 3, 5, 8, 15, 40, 120] {
        let world = World::new();
        let spec = spec(&["one-db", "two"], &["citext"]);
        let done = polled(steps, world.postgres.ensure(&owner("mine"), &spec)).await;
        // As if the host program had come back.
        let postgres = world.again();
        postgres.resume().await.unwrap();
        let bindings = postgres.ensure(&owner("mine"), &spec).await.unwrap();
        app(&bindings).await.unwrap();
        let again = postgres.ensure(&owner("mine"), &spec).await.unwrap();
        assert_eq!(
            again["DATABASE_URL"].expose_secret(),
            bindings["DATABASE_URL"].expose_secret()
        );
        let left: Vec<_> = fs::read_dir(world.path("15"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert!(left.is_empty(), "after {steps} steps: {left:?}");
        world.end().await;
        if done {
            return;
        }
    }
}

#[tokio::test]
async fn a_new_database_that_is_dropped_anywhere_goes_on() {
    let world = World::new();
    world.ensure("first").await;
    let mut steps = 0;
    loop {
        steps += 1;
        let name = format!("app-{steps}");
        let spec = spec(&[], &["citext"]);
        let done = polled(steps, world.postgres.ensure(&owner(&name), &spec)).await;
        let bindings = world.try_ensure(&name, &spec).await.unwrap();
        let client = app(&bindings).await.unwrap();
        let database = "SELECT current_database()::text";
        assert_eq!(one(&client, database).await, name.replace('-', "_"));
        drop(client);

        // Its end, too, in both ways.
        for purge in [false, true] {
            polled(steps, world.postgres.remove(&owner(&name), purge)).await;
            if !purge {
                let again = world.try_ensure(&name, &spec).await.unwrap();
                assert_eq!(
                    again["PGPASSWORD"].expose_secret(),
                    bindings["PGPASSWORD"].expose_secret()
                );
                app(&again).await.unwrap();
            }
        }
        // A purge that was begun is completed before there is anything new.
        let again = world.try_ensure(&name, &spec).await.unwrap();
        let client = app(&again).await.unwrap();
        one(&client, database).await;
        if done {
            break;
        }
    }
    assert!(steps > 10, "{steps}");
    println!("{steps} steps");
    world.end().await;
}

#[tokio::test]
async fn a_statement_that_a_dropped_call_left_behind_is_waited_for() {
    let world = World::new();
    let mine = world.ensure("mine").await;
    // Roles can be read, and changed only later.
    let blocker = world.superuser("postgres").await;
    let block = "BEGIN; LOCK TABLE pg_authid IN SHARE MODE";
    blocker.batch_execute(block).await.unwrap();
    let waits = |event: &'static str| {
        let question = format!(
            "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
             AND application_name = 'vela' AND wait_event = '{event}'"
        );
        let blocker = &blocker;
        async move {
            while one(blocker, &question).await == "0" {
                // The activity is as it was first seen in a transaction.
                one(blocker, "SELECT pg_stat_clear_snapshot()::text").await;
                tokio::task::yield_now().await;
            }
        }
    };
    let name = owner("mine");
    tokio::select! {
        removed = world.postgres.remove(&name, false) => panic!("{removed:?}"),
        () = waits("relation") => {}
    }
    let mut again = Box::pin(world.ensure("mine"));
    tokio::select! {
        _ = &mut again => panic!("it has not waited"),
        () = waits("advisory") => {}
    }
    blocker.batch_execute("COMMIT").await.unwrap();
    again.await;
    app(&mine).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn leftovers_of_a_crash_do_not_matter() {
    let world = World::new();
    fs::create_dir_all(world.path("15/.data-leftover/base")).unwrap();
    fs::create_dir_all(world.path("owners")).unwrap();
    fs::write(world.path("owners/.mine.toml.new"), "half a fi").unwrap();
    fs::write(world.path("15/.server.toml.new"), "po").unwrap();
    let bindings = world.ensure("mine").await;
    app(&bindings).await.unwrap();
    assert!(!world.path("15/.data-leftover").exists());

    // Written down and then nothing, or the role alone, or a database that is still closed.
    let file = world.path("owners/mine.toml");
    let record = fs::read_to_string(&file).unwrap();
    let incomplete = record.replace("created = true", "created = false");
    assert_ne!(record, incomplete);
    for undone in [
        &["DROP DATABASE mine", "DROP ROLE mine"][..],
        &["DROP DATABASE mine"],
        &[
            "ALTER DATABASE mine ALLOW_CONNECTIONS false",
            "GRANT CONNECT ON DATABASE mine TO PUBLIC",
        ],
    ] {
        for statement in undone {
            world.sql(statement).await;
        }
        fs::write(&file, &incomplete).unwrap();
        world.ensure("mine").await;
        app(&bindings).await.unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), record);
    }
    world.end().await;
}

#[tokio::test]
async fn a_server_that_is_killed_comes_back_with_everything() {
    let world = World::new();
    let bindings = world.ensure("mine").await;
    let client = app(&bindings).await.unwrap();
    client
        .batch_execute("CREATE TABLE t (n int)")
        .await
        .unwrap();
    for n in 1..=5_i32 {
        client
            .execute("INSERT INTO t VALUES ($1)", &[&n])
            .await
            .unwrap();
    }
    kill(world.pid().await);
    let again = world.ensure("mine").await;
    assert_eq!(
        again["DATABASE_URL"].expose_secret(),
        bindings["DATABASE_URL"].expose_secret()
    );
    let client = app(&again).await.unwrap();
    assert_eq!(one(&client, "SELECT count(*)::text FROM t").await, "5");

    // Also without anybody who asks for it.
    let before = world.pid().await;
    kill(before);
    until_back(&bindings).await;
    assert_ne!(world.pid().await, before);
    let state = world.runner.state(&server("15"), 0).await;
    assert!(state.restarts >= 1, "{state:?}");
    world.end().await;
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_is_waited_for() {
    let world = World::new();
    world.ensure("first").await;
    let mut interrupted = 0;
    for steps in [1, 2, 3, 4, 6, 9, 13, 18] {
        let (name, spec) = (format!("app-{steps}"), spec(&[], &["citext"]));
        let mut ensure = Box::pin(world.try_ensure(&name, &spec));
        if polled(steps, ensure.as_mut()).await {
            break;
        }
        kill(world.pid().await);
        let bindings = ensure.await.unwrap();
        // If all was done already, it is on its way back.
        until_back(&bindings).await;
        interrupted += 1;
    }
    assert!(interrupted >= 5, "{interrupted}");
    world.end().await;
}

#[tokio::test]
async fn a_lock_file_of_before_a_reboot_is_no_obstacle() {
    let world = World::new();
    let bindings = world.ensure("mine").await;
    let file = world.path("15/data/postmaster.pid");
    let lock = fs::read_to_string(&file).unwrap();
    let user = fs::metadata(world.path("15/data")).unwrap();
    world.runner.stop(&server("15")).await.unwrap();

    // The id is another process's by now, of the server's own user: it would be believed.
    let mut other = tokio::process::Command::new("/bin/sleep");
    let uid = std::os::unix::fs::MetadataExt::uid(&user);
    let mut other = other
        .arg("1000")
        .uid(uid)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (_, rest) = lock.split_once('\n').unwrap();
    fs::write(&file, format!("{}\n{rest}", other.id().unwrap())).unwrap();
    std::os::unix::fs::chown(&file, Some(uid), None).unwrap();

    let postgres = world.again();
    postgres.resume().await.unwrap();
    app(&bindings).await.unwrap();
    let ensured = postgres
        .ensure(&owner("mine"), &ServiceSpec::default())
        .await;
    ensured.unwrap();
    other.kill().await.unwrap();
    world.end().await;
}

async fn until_back(bindings: &Bindings) {
    let back = async {
        while app(bindings).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), back).await.unwrap();
}
