//! What the server itself refuses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use secrecy::ExposeSecret;
use tokio_postgres::Config;

use crate::world::{World, app, connect, one, refused};

#[tokio::test]
async fn an_owner_gets_into_nothing_but_its_own() {
    let world = World::new();
    let one_app = world.ensure("one").await;
    let other = world.ensure("other").await;
    let way = |role: &str, password: Option<&str>, database: &str| {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(world.port())
            .user(role)
            .dbname(database);
        if let Some(password) = password {
            config.password(password);
        }
        config
    };
    let password = one_app["PGPASSWORD"].expose_secret();
    connect(&way("one", Some(password), "one")).await.unwrap();

    for database in ["other", "postgres", "template1"] {
        let said = refused(connect(&way("one", Some(password), database)).await);
        assert!(said.contains("permission denied for database"), "{said}");
    }
    let said = refused(connect(&way("one", Some(password), "template0")).await);
    assert!(
        said.contains("not currently accepting connections"),
        "{said}"
    );
    // Neither with its own password, nor with none, nor as the superuser.
    let said = refused(connect(&way("other", Some(password), "other")).await);
    assert!(said.contains("password authentication failed"), "{said}");
    let said = refused(connect(&way("other", None, "other")).await);
    assert!(said.contains("password missing"), "{said}");
    for password in [None, Some(password), Some("")] {
        let said = refused(connect(&way("postgres", password, "postgres")).await);
        assert!(said.contains("pg_hba.conf rejects connection"), "{said}");
    }

    let client = app(&one_app).await.unwrap();
    let others = app(&other).await.unwrap();
    for statement in [
        "SET ROLE postgres",
        "SET ROLE other",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "ALTER ROLE one SUPERUSER",
        "ALTER ROLE other PASSWORD 'x'",
        "GRANT other TO one",
        "DROP DATABASE other",
        "ALTER DATABASE other OWNER TO one",
        "SELECT * FROM pg_authid",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/vela-never-written'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_reload_conf()",
        "ALTER SYSTEM SET port = 1",
        "CREATE EXTENSION file_fdw",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'other'",
    ] {
        let answer = client.batch_execute(statement).await;
        assert!(answer.is_err(), "{statement}");
        let said = refused(answer);
        let is_refused = ["permission denied", "must be ", "must have "];
        assert!(
            is_refused.iter().any(|words| said.contains(words)),
            "{statement}: {said}"
        );
    }
    // What it owns it may do with as it likes.
    client
        .batch_execute("CREATE TABLE t (n int); CREATE SCHEMA s; INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    assert_eq!(
        one(&others, "SELECT current_database()::text").await,
        "other"
    );
    world.end().await;
}

#[tokio::test]
async fn the_socket_is_for_the_superuser_and_for_root_only() {
    let world = World::new();
    let bindings = world.ensure("one").await;
    let run = world.path("15/run");
    let is = fs::metadata(&run).unwrap();
    assert_eq!(is.mode() & 0o777, 0o700);
    let server = fs::metadata(format!("/proc/{}", world.pid().await)).unwrap();
    assert_eq!(server.uid(), is.uid(), "the server runs as its own user");
    assert_ne!(server.uid(), 0);

    let psql = |uid: u32, role: &str| {
        let ran = Command::new("/usr/lib/postgresql/15/bin/psql")
            .env_clear()
            .env("PGPASSWORD", bindings["PGPASSWORD"].expose_secret())
            .args(["-XAtc", "SELECT 1", "-U", role, "-d", role, "-h"])
            .arg(&run)
            .args(["-p", &world.port().to_string()])
            .current_dir("/")
            .uid(uid)
            .output()
            .unwrap();
        (
            ran.status.success(),
            String::from_utf8_lossy(&ran.stderr).into_owned(),
        )
    };
    assert!(psql(0, "postgres").0);
    assert!(psql(is.uid(), "postgres").0);
    let (ok, said) = psql(65534, "postgres");
    assert!(!ok && said.contains("Permission denied"), "{said}");
    let (ok, said) = psql(0, "one");
    assert!(!ok && said.contains("no pg_hba.conf entry"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn secrets_are_in_one_private_file_and_nowhere_else() {
    let world = World::new();
    world.ensure("one").await;
    // An operator who wants to see everything in the log.
    let own =
        "log_statement = all\nlog_min_duration_statement = 0\nlog_min_error_statement = info\n";
    fs::write(world.path("15/local.conf"), own).unwrap();
    world.sql("SELECT pg_reload_conf()").await;
    let client = world.superuser("postgres").await;
    while one(&client, "SHOW log_min_duration_statement").await != "0" {
        tokio::task::yield_now().await;
    }

    let bindings = world.ensure("two").await;
    let password = bindings["PGPASSWORD"].expose_secret();
    world.sql("ALTER ROLE two PASSWORD 'meddled'").await;
    world.ensure("two").await;
    app(&bindings).await.unwrap();
    let verifier: String = one(
        &client,
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'two'",
    )
    .await;
    assert!(verifier.starts_with("SCRAM-SHA-256$4096:"));

    let log = world.log();
    assert!(log.contains("duration:"), "the operator's settings count");
    assert!(log.contains("ready to accept connections"), "{log}");
    let key = verifier.split(':').nth(1).unwrap();
    for secret in [password, key] {
        assert!(!log.contains(secret), "{log}");
        assert!(!format!("{:?}{bindings:?}", world.postgres).contains(secret));
        for process in fs::read_dir("/proc").unwrap() {
            let file = process.unwrap().path().join("cmdline");
            let line = fs::read(file).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(secret));
        }
    }
    let mode = |path: &str| fs::metadata(world.path(path)).unwrap().mode() & 0o777;
    assert_eq!(mode("owners"), 0o700);
    assert_eq!(mode("owners/two.toml"), 0o600);
    assert_eq!(mode("15/server.toml"), 0o600);
    assert_eq!(mode("15/pg_hba.conf"), 0o640);
    assert_eq!(mode("15/data"), 0o700);
    let file = fs::read_to_string(world.path("owners/two.toml")).unwrap();
    assert!(file.contains(password));
    world.end().await;
}
