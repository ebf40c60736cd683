//! Accounts come and go, and the server with them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use async_nats::jetstream;
use tokio::time::sleep;
use vela_services::Provisioner;

use super::world::{Access, Wire, World, name, plain, with_jetstream, with_subjects};

async fn make_stream(access: &Access) -> jetstream::Context {
    let context = jetstream::new(access.client().await);
    let subjects = vec![format!("{}.>", access.user)];
    let config = jetstream::stream::Config {
        name: "events".into(),
        subjects,
        ..Default::default()
    };
    context.get_or_create_stream(config).await.unwrap();
    context
}

/// Publishes, and returns once it is acknowledged.
async fn publish(context: &jetstream::Context, subject: &str) -> u64 {
    let sent = context
        .publish(subject.to_owned(), "x".into())
        .await
        .unwrap();
    sent.await.unwrap().sequence
}

async fn count(access: &Access) -> u64 {
    let context = jetstream::new(access.client().await);
    let mut stream = context.get_stream("events").await.unwrap();
    stream.info().await.unwrap().state.messages
}

#[tokio::test]
async fn credentials_are_stable_private_and_shown_nowhere() {
    let world = World::new();
    let first = world.ensure("my-app", &with_jetstream()).await;
    assert_eq!(first.user, "my-app");
    assert_eq!(
        first.url,
        format!(
            "nats://my-app:{}@127.0.0.1:{}",
            first.password,
            first.port()
        )
    );
    assert!((20_001..=29_999).contains(&first.port()));
    assert!(first.password.len() >= 32);
    // It says so a moment after it is.
    while !world.log().contains("Server is ready") {
        sleep(Duration::from_millis(5)).await;
    }
    let log = world.log();
    assert!(first == world.ensure("my-app", &with_jetstream()).await);
    assert_eq!(world.log(), log, "the server was not told of anything");

    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("owners/my-app.toml"), 0o600);
    assert_eq!(mode("server.toml"), 0o600);
    assert_eq!(mode("nats.conf"), 0o640);
    assert_eq!((mode("owners"), mode("store")), (0o700, 0o700));

    // The server has a user of its own, who owns its data and can only read its configuration.
    let pid = world.pid().await.unwrap();
    let runs_as = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert_ne!(runs_as, 0);
    assert_eq!(fs::metadata(world.path("store")).unwrap().uid(), runs_as);
    let config = fs::metadata(world.path("nats.conf")).unwrap();
    assert_eq!(config.uid(), 0);
    assert_ne!(config.gid(), 0);

    let argv = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let env = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let shown = format!(
        "{}{}{}{}{:?}",
        String::from_utf8_lossy(&argv),
        String::from_utf8_lossy(&env),
        world.log(),
        world.read("nats.conf"),
        world.nats
    );
    assert!(!shown.contains(&first.password));
    let settings = world.read("server.toml");
    for line in settings
        .lines()
        .filter(|line| line.contains("_path") || line.contains("_password"))
    {
        let secret = line.split('"').nth(1).unwrap();
        assert!(!world.log().contains(secret), "{line}");
    }
}

#[tokio::test]
async fn owners_come_and_go_and_the_others_stay_connected() {
    let world = World::new();
    let one = world.ensure("one", &with_jetstream()).await;
    let pid = world.pid().await;
    let mut wire = Wire::login(&one).unwrap();
    assert_eq!(wire.ask("SUB one.> 1\r\nPING"), "PONG");

    let two = world.ensure("two", &with_jetstream()).await;
    make_stream(&two).await;
    world.ensure("two", &with_subjects(&["orders.>"])).await;
    world.ensure("three", &plain()).await;
    world.remove("two", false).await;
    world.ensure("two", &with_jetstream()).await;
    world.remove("two", true).await;
    world.remove("three", true).await;

    // The same socket, the same subscription, the same process.
    assert_eq!(wire.ask("PUB one.a 2\r\nhi"), "MSG one.a 1 2");
    assert_eq!(world.pid().await, pid);
    assert!(world.log().contains("Reloaded server configuration"));
    assert!(!world.log().contains("authentication error - User \"one\""));
}

#[tokio::test]
async fn one_that_is_removed_is_cut_off_and_its_data_waits_for_it() {
    let world = World::new();
    world.ensure("other", &plain()).await;
    let one = world.ensure("one", &with_jetstream()).await;
    publish(&make_stream(&one).await, "one.a").await;
    let mut wire = Wire::login(&one).unwrap();

    let given = world.nats.bindings(&name("one"), &with_jetstream()).await;
    assert!(given.unwrap().is_some());
    world.remove("one", false).await;
    let given = world.nats.bindings(&name("one"), &with_jetstream()).await;
    assert!(given.unwrap().is_none());
    let end = wire.line();
    assert!(end.is_empty() || end.starts_with("-ERR"), "{end}");
    assert!(Wire::login(&one).is_err());
    let status = world.nats.status().await.unwrap().remove(0);
    let active: Vec<_> = status
        .owners
        .iter()
        .map(|o| (o.owner.as_str(), o.active))
        .collect();
    assert_eq!(active, [("one", false), ("other", true)]);
    assert_eq!(status.owners[0].holds, ["one", "one.>"]);
    assert_eq!(status.version.as_deref(), Some("2.9.10"));
    assert_eq!(status.address, format!("127.0.0.1:{}", one.port()));

    assert!(one == world.ensure("one", &with_jetstream()).await);
    assert_eq!(count(&one).await, 1);

    world.remove("one", true).await;
    assert!(!world.path("store/jetstream/one").exists());
    assert!(!world.path("owners/one.toml").exists());
    assert!(Wire::login(&one).is_err());
    let again = world.ensure("one", &with_jetstream()).await;
    assert!(again.password != one.password);
    // A stream of the same name is a new one, which nothing of the old one disturbs.
    let context = make_stream(&again).await;
    assert_eq!(publish(&context, "one.a").await, 1);
    assert_eq!(count(&again).await, 1);
}

#[tokio::test]
async fn without_owners_the_server_stops_and_comes_back_with_the_data() {
    let world = World::new();
    let one = world.ensure("one", &with_jetstream()).await;
    publish(&make_stream(&one).await, "one.a").await;
    world.remove("one", false).await;
    assert_eq!(world.pid().await, None);
    world.nats.resume().await.unwrap();
    assert_eq!(world.pid().await, None, "nobody needs it");

    let world = world.restarted(true);
    assert!(one == world.ensure("one", &with_jetstream()).await);
    assert_eq!(count(&one).await, 1);
    world.remove("one", true).await;
    assert_eq!(world.pid().await, None);
    assert!(!world.path("store/jetstream/one").exists());
}

#[tokio::test]
async fn what_is_acknowledged_survives_the_death_of_the_server() {
    let world = World::new();
    let one = world.ensure("one", &with_jetstream()).await;
    let context = make_stream(&one).await;
    let mut acknowledged = 0;
    for _ in 0..3 {
        for _ in 0..50 {
            acknowledged = publish(&context, "one.a").await;
        }
        world.kill().await;
        assert!(one == world.ensure("one", &with_jetstream()).await);
        assert_eq!(count(&one).await, acknowledged);
    }
    assert_eq!(acknowledged, 150);
}

#[tokio::test]
async fn it_is_back_after_a_reboot_and_kept_over_a_restart_of_the_host_program() {
    let world = World::new();
    world.nats.resume().await.unwrap();
    assert!(!world.path("").exists(), "there was nothing to bring back");
    let one = world.ensure("one", &with_jetstream()).await;
    publish(&make_stream(&one).await, "one.a").await;

    let world = world.restarted(true);
    assert_eq!(world.pid().await, None);
    world.nats.resume().await.unwrap();
    assert_eq!(count(&one).await, 1);

    let pid = world.pid().await;
    let mut wire = Wire::login(&one).unwrap();
    let world = world.restarted(false);
    world.nats.resume().await.unwrap();
    assert!(one == world.ensure("one", &with_jetstream()).await);
    assert_eq!(world.pid().await, pid);
    assert_eq!(wire.ask("PING"), "PONG");
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_point_is_made_good_by_the_next() {
    let world = World::new();
    let one = world.ensure("one", &with_jetstream()).await;
    let mut wire = Wire::login(&one).unwrap();
    for step in 0..25 {
        let after = Duration::from_micros(300 * step * step);
        let two = name("two");
        let spec = with_jetstream();
        // Whether it was done in that time does not matter.
        drop(tokio::time::timeout(after, world.nats.ensure(&two, &spec)).await);
        let access = world.ensure("two", &spec).await;
        Wire::login(&access).unwrap();
        drop(tokio::time::timeout(after, world.nats.remove(&two, true)).await);
        world.remove("two", true).await;
        assert!(Wire::login(&access).is_err());
        assert!(!world.path("owners/two.toml").exists());
        assert!(!world.path("store/jetstream/two").exists());
    }
    assert_eq!(wire.ask("PING"), "PONG");
}
