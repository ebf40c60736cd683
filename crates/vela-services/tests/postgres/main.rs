//! `Postgres` with a server of its own: what an owner gets, and what nobody else does.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../cluster/mod.rs"]
mod cluster;
mod crash;
mod drift;
mod elsewhere;
mod failure;
mod install;
mod isolation;
mod life;
mod unprivileged;
mod world;

use std::process::Command;
use std::time::Instant;

use secrecy::ExposeSecret;
use vela_services::test_util::conformance;
use vela_services::{Runner, ServiceSpec};

use self::world::{World, app, connect, one, server, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_passes_the_suite_of_every_provisioner() {
    let world = World::new();
    conformance(&world.postgres, &ServiceSpec::default()).await;
    conformance(&world.postgres, &spec(&[], &["pg_trgm", "citext"])).await;

    // Nobody has anything any more: the server is stopped, and its data is kept.
    let state = world.runner.state(&server("15"), 0).await;
    assert_eq!(state.pid, None);
    assert!(world.path("15/data/PG_VERSION").exists());
    world.end().await;
}

#[tokio::test]
async fn a_database_of_its_own_with_everything_a_program_needs() {
    let world = World::new();
    let begun = Instant::now();
    let bindings = world
        .try_ensure("my-app", &spec(&["main", "jobs-1"], &["pg_trgm"]))
        .await
        .unwrap();
    println!("first ensure: {:?}", begun.elapsed());
    let names: Vec<_> = bindings.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "DATABASE_URL",
            "DATABASE_URL_JOBS_1",
            "DATABASE_URL_MAIN",
            "PGDATABASE",
            "PGHOST",
            "PGPASSWORD",
            "PGPORT",
            "PGUSER"
        ]
    );
    let value = |name: &str| bindings[name].expose_secret();
    let password = value("PGPASSWORD");
    let port = world.port();
    assert!((20_001..=29_999).contains(&port), "{port}");
    let url = format!("postgres://main:{password}@127.0.0.1:{port}/main");
    assert_eq!(value("DATABASE_URL"), url);
    assert_eq!(value("DATABASE_URL_MAIN"), url);
    let url = value("DATABASE_URL_JOBS_1");
    assert!(url.starts_with("postgres://jobs-1:") && url.ends_with("/jobs-1"));
    assert!(!url.contains(password), "each role has its own password");

    // What libpq makes of the variables, and that the database is the role's.
    let ran = Command::new("/usr/lib/postgresql/15/bin/psql")
        .env_clear()
        .envs(
            bindings
                .iter()
                .map(|(name, value)| (name, value.expose_secret())),
        )
        .args([
            "-XAtc",
            "CREATE SCHEMA s; CREATE TABLE s.t (n int); SELECT current_user",
        ])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let main = app(&bindings).await.unwrap();
    let extension = "SELECT extname::text FROM pg_extension WHERE extname = 'pg_trgm'";
    assert_eq!(one(&main, extension).await, "pg_trgm");
    let jobs = connect(&value("DATABASE_URL_JOBS_1").parse().unwrap())
        .await
        .unwrap();
    assert_eq!(one(&jobs, extension).await, "pg_trgm");
    assert_eq!(one(&jobs, "SHOW server_encoding").await, "UTF8");
    assert_eq!(one(&jobs, "SHOW data_checksums").await, "on");

    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let again = world
            .try_ensure("my-app", &spec(&["main"], &[]))
            .await
            .unwrap();
        times.push(begun.elapsed());
        assert_eq!(again["DATABASE_URL"].expose_secret(), value("DATABASE_URL"));
    }
    times.sort_unstable();
    println!(
        "later ensures: median {:?}, longest {:?}",
        times[10], times[19]
    );
    world.end().await;
}
