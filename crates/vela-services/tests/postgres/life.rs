//! Removed and had again, stopped and resumed, and what an operator sees of it.

use std::fs;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::timeout;
use tokio_postgres::Config;
use vela_services::{OwnerStatus, Provisioner, Runner, ServiceError, ServiceSpec};

use crate::world::{World, app, chain, connect, one, owner, refused, server, spec};

#[tokio::test]
async fn removed_it_keeps_its_data_and_purged_it_does_not() {
    let world = World::new();
    let mine = world.ensure("mine").await;
    let other = world.ensure("other").await;
    let client = app(&mine).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .unwrap();

    let plain = ServiceSpec::default();
    let found = world.postgres.bindings(&owner("mine"), &plain).await;
    assert!(found.unwrap().is_some());
    world.postgres.remove(&owner("mine"), false).await.unwrap();
    let found = world.postgres.bindings(&owner("mine"), &plain).await;
    assert!(found.unwrap().is_none());
    // Its sessions are over, and there are no new ones.
    timeout(Duration::from_secs(30), async {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let said = refused(app(&mine).await);
    assert!(said.contains("is not permitted to log in"), "{said}");
    app(&other).await.unwrap();

    let again = world.ensure("mine").await;
    let password = again["PGPASSWORD"].expose_secret();
    assert_eq!(password, mine["PGPASSWORD"].expose_secret());
    let client = app(&mine).await.unwrap();
    let table = "SELECT relname::text FROM pg_class WHERE relname = 'kept'";
    assert_eq!(one(&client, table).await, "kept");

    // Something of it in another's database does not hold the purge up.
    let others = app(&other).await.unwrap();
    others
        .batch_execute("GRANT ALL ON DATABASE other TO mine; GRANT ALL ON SCHEMA public TO mine")
        .await
        .unwrap();
    let mut guest: Config = mine["DATABASE_URL"].expose_secret().parse().unwrap();
    let guest = connect(guest.dbname("other")).await.unwrap();
    guest
        .batch_execute("CREATE TABLE left_behind (n int)")
        .await
        .unwrap();
    world.postgres.remove(&owner("mine"), true).await.unwrap();
    assert!(!world.path("owners/mine.toml").exists());
    let left = "SELECT count(*)::text FROM (SELECT rolname FROM pg_roles WHERE rolname = 'mine' \
        UNION ALL SELECT datname FROM pg_database WHERE datname = 'mine') AS x";
    assert_eq!(one(&others, left).await, "0");
    let heir = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'left_behind'";
    assert_eq!(one(&others, heir).await, "other");

    let new = world.ensure("mine").await;
    assert_ne!(new["PGPASSWORD"].expose_secret(), password);
    world.end().await;
}

#[tokio::test]
async fn the_last_one_to_leave_stops_the_server() {
    let world = World::new();
    let mine = world.ensure("mine").await;
    world.ensure("other").await;
    let runs = async || world.runner.state(&server("15"), 0).await.pid.is_some();
    world.postgres.remove(&owner("other"), false).await.unwrap();
    assert!(runs().await);
    world.postgres.remove(&owner("mine"), false).await.unwrap();
    assert!(!runs().await);
    // What is removed is not resumed; removed once more it starts nothing.
    world.postgres.resume().await.unwrap();
    world.postgres.remove(&owner("mine"), false).await.unwrap();
    assert!(!runs().await);

    world.ensure("mine").await;
    app(&mine).await.unwrap();
    world.postgres.remove(&owner("mine"), false).await.unwrap();
    // A purge wakes it up and puts it to rest again.
    world.postgres.remove(&owner("other"), true).await.unwrap();
    assert!(!runs().await);
    assert!(!world.path("owners/other.toml").exists());
    world.end().await;
}

#[tokio::test]
async fn after_a_reboot_everything_is_resumed_with_the_same_credentials() {
    let world = World::new();
    let bindings = world.ensure("mine").await;
    world.runner.stop(&server("15")).await.unwrap();

    let postgres = world.again();
    postgres.resume().await.unwrap();
    app(&bindings).await.unwrap();
    let pid = world.pid().await;
    postgres.resume().await.unwrap();
    let again = postgres
        .ensure(&owner("mine"), &ServiceSpec::default())
        .await
        .unwrap();
    assert_eq!(
        again["DATABASE_URL"].expose_secret(),
        bindings["DATABASE_URL"].expose_secret()
    );
    assert_eq!(world.pid().await, pid, "one that runs is left running");

    // One that can't be resumed is told, and the others are there nevertheless.
    world.runner.stop(&server("15")).await.unwrap();
    let record = fs::read_to_string(world.path("owners/mine.toml")).unwrap();
    let elsewhere = record
        .replace("\"15\"", "\"99\"")
        .replace("\"mine\"", "\"lost\"");
    fs::write(world.path("owners/lost.toml"), elsewhere).unwrap();
    let error = world.again().resume().await.unwrap_err();
    assert!(
        matches!(error, ServiceError::NotInstalled { .. }),
        "{}",
        chain(&error)
    );
    app(&bindings).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_server_without_anybody_in_it_is_not_left_running() {
    let world = World::new();
    let asked = world.try_ensure("mine", &spec(&["taken"], &[])).await;
    asked.unwrap();
    // As after a crash between the start of the server and the first record.
    fs::remove_file(world.path("owners/mine.toml")).unwrap();
    world.again().resume().await.unwrap();
    assert_eq!(world.runner.state(&server("15"), 0).await.pid, None);
    world.end().await;
}

#[tokio::test]
async fn an_operator_sees_servers_and_owners() {
    let world = World::new();
    assert!(world.postgres.status().await.unwrap().is_empty());
    world
        .try_ensure("b-app", &spec(&["x", "y"], &[]))
        .await
        .unwrap();
    world.ensure("a-app").await;
    world.postgres.remove(&owner("a-app"), false).await.unwrap();

    let status = world.postgres.status().await.unwrap();
    let [status] = &status[..] else {
        panic!("{status:?}");
    };
    assert_eq!(status.server, server("15"));
    assert_eq!(status.pid, Some(world.pid().await));
    assert_eq!(status.address, format!("127.0.0.1:{}", world.port()));
    assert!(
        status.version.as_ref().unwrap().starts_with("15."),
        "{status:?}"
    );
    let has = |name, holds: &[&str], active| OwnerStatus {
        owner: owner(name),
        holds: holds.iter().map(|&name| name.to_owned()).collect(),
        active,
    };
    assert_eq!(
        status.owners,
        [
            has("a-app", &["a_app"], false),
            has("b-app", &["x", "y"], true)
        ]
    );
    world.end().await;
}
