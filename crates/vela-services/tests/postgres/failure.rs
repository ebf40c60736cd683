//! What can't be had is said with what the server itself says about it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use vela_services::{
    Children, Installer, Postgres, Provisioner, Runner, ServiceError, ServiceSpec,
};

use crate::world::{World, app, chain, owner, server, spec};

fn version(version: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.version = Some(version.into());
    spec
}

#[tokio::test]
async fn a_port_that_a_stranger_took_is_an_error_that_says_so() {
    let world = World::new();
    let bindings = world.ensure("mine").await;
    world.runner.stop(&server("15")).await.unwrap();
    let stranger = TcpListener::bind(("127.0.0.1", world.port())).unwrap();

    let begun = Instant::now();
    let error = world
        .try_ensure("mine", &ServiceSpec::default())
        .await
        .unwrap_err();
    println!("given up after {:?}", begun.elapsed());
    assert!(matches!(error, ServiceError::NotReady { .. }), "{error:?}");
    assert_eq!(
        chain(&error),
        "the server postgres-15 does not get ready: exit code 1"
    );
    let log = error.output().join("\n");
    assert!(log.contains("Address already in use"), "{log}");

    // The programs that hold the old port find it again.
    drop(stranger);
    world.ensure("mine").await;
    app(&bindings).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_port_that_was_taken_before_anybody_had_it_is_changed() {
    let world = World::new();
    fs::create_dir_all(world.path("15")).unwrap();
    let stranger = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = stranger.local_addr().unwrap().port();
    fs::write(world.path("15/server.toml"), format!("port = {taken}\n")).unwrap();
    let bindings = world.ensure("mine").await;
    assert_ne!(world.port(), taken);
    app(&bindings).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn settings_that_the_server_does_not_take_are_in_the_error() {
    let world = World::new();
    world.ensure("mine").await;
    world.runner.stop(&server("15")).await.unwrap();
    fs::write(world.path("15/local.conf"), "no_such_setting = 1\n").unwrap();
    let error = world
        .try_ensure("mine", &ServiceSpec::default())
        .await
        .unwrap_err();
    let log = error.output().join("\n");
    assert!(log.contains("no_such_setting"), "{log}");
    fs::remove_file(world.path("15/local.conf")).unwrap();
    world.ensure("mine").await;
    world.end().await;
}

#[tokio::test]
async fn data_stays_in_its_version() {
    let world = World::new();
    let mine = owner("mine");
    world
        .postgres
        .ensure(&mine, &version("15.4"))
        .await
        .unwrap();
    world
        .postgres
        .ensure(&mine, &ServiceSpec::default())
        .await
        .unwrap();
    let error = world
        .postgres
        .ensure(&mine, &version("16"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the data of `mine` is in postgres-15, and version 16 is asked for"
    );
    let error = world
        .postgres
        .ensure(&mine, &version("newest"))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ServiceError::Invalid { key: "version", .. }
    ));

    // Data of another version under this one's name.
    world.runner.stop(&server("15")).await.unwrap();
    fs::write(world.path("15/data/PG_VERSION"), "14\n").unwrap();
    let error = world
        .postgres
        .ensure(&mine, &version("15"))
        .await
        .unwrap_err();
    assert!(matches!(error, ServiceError::Damaged { .. }), "{error:?}");
    fs::write(world.path("15/data/PG_VERSION"), "15\n").unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_damaged_record_concerns_its_owner_only() {
    let world = World::new();
    world.ensure("mine").await;
    let file = world.path("owners/mine.toml");
    let record = fs::read_to_string(&file).unwrap();
    let torn = &record[..record.len() / 2];
    fs::write(&file, torn).unwrap();

    let error = world
        .try_ensure("mine", &ServiceSpec::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ServiceError::Damaged { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("owners/mine.toml"));
    assert!(world.postgres.remove(&owner("mine"), true).await.is_err());
    world.ensure("other").await;
    // Nobody gets what it may have.
    let error = world
        .try_ensure("third", &spec(&["mine"], &[]))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the database `mine` belongs to `mine`");
    let error = world.again().resume().await.unwrap_err();
    assert!(matches!(error, ServiceError::Damaged { .. }), "{error:?}");
    world.postgres.remove(&owner("other"), true).await.unwrap();
    assert!(world.runner.state(&server("15"), 0).await.pid.is_some());
    assert_eq!(world.postgres.status().await.unwrap().len(), 1);

    assert_eq!(fs::read_to_string(&file).unwrap(), torn);
    fs::write(&file, record).unwrap();
    world.ensure("mine").await;
    world.end().await;
}

#[tokio::test]
async fn a_tool_that_fails_is_quoted() {
    let world = World::new();
    let bin = world.dir.path().join("programs/99/bin");
    fs::create_dir_all(&bin).unwrap();
    for program in ["postgres", "initdb"] {
        let file = bin.join(program);
        fs::write(
            &file,
            "#!/bin/sh\necho one; echo the disk is full >&2; exit 3\n",
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let postgres = world
        .again()
        .programs(vec![world.dir.path().join("programs")]);
    let error = postgres
        .ensure(&owner("mine"), &version("99"))
        .await
        .unwrap_err();
    assert_eq!(chain(&error), "`initdb` failed: exit status: 3");
    assert_eq!(error.output(), ["one", "the disk is full"]);
    assert!(!world.path("99/data").exists());
    world.end().await;
}

#[tokio::test]
async fn a_path_that_is_too_long_for_a_socket_is_an_error_before_anything() {
    let world = World::new();
    let dir = world.dir.path().join("d".repeat(80));
    let runner: Arc<dyn Runner> = Arc::new(Children::new(Path::new("/nonexistent").into()));
    let postgres = Postgres::new(dir.clone(), runner).installer(Installer::never());
    let error = postgres
        .ensure(&owner("mine"), &version("15"))
        .await
        .unwrap_err();
    let said = chain(&error);
    assert!(said.contains("a socket has at most 107 bytes"), "{said}");
    assert!(!dir.join("15/data").exists() && !dir.join("owners").exists());
    world.end().await;
}
