//! Databases in a server that somebody else runs.

use std::fs;

use secrecy::{ExposeSecret, SecretString};
use vela_services::test_util::conformance;
use vela_services::{Bindings, Provisioner, ServiceError, ServiceSpec};

use crate::cluster::Cluster;
use crate::world::{World, app, chain, one, owner, refused, spec};

/// A superuser, and one who may just make roles and databases.
const ADMINS: [&str; 2] = ["root_user:root-password", "maker:maker-password"];

fn elsewhere() -> Cluster {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE maker LOGIN CREATEDB CREATEROLE PASSWORD 'maker-password'");
    cluster
}

fn of(cluster: &Cluster, admin: &str, databases: &[&str], extensions: &[&str]) -> ServiceSpec {
    let mut spec = spec(databases, extensions);
    let url = format!(
        "postgres://{admin}@127.0.0.1:{}/postgres?sslmode=disable",
        cluster.port
    );
    spec.url = Some(SecretString::from(url));
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_passes_the_suite_of_every_provisioner() {
    for admin in ADMINS {
        let (cluster, world) = (elsewhere(), World::new());
        let spec = of(&cluster, admin, &[], &["citext"]);
        conformance(&world.postgres, &spec).await;
        assert!(!world.path("15").exists(), "no server is run here");
        world.end().await;
    }
}

#[tokio::test]
async fn roles_and_databases_are_made_and_kept_right() {
    for admin in ADMINS {
        let (cluster, world) = (elsewhere(), World::new());
        let spec = of(&cluster, admin, &["first", "second"], &["pg_trgm"]);
        let bindings = world.try_ensure("mine", &spec).await.unwrap();
        let other = of(&cluster, admin, &["other"], &[]);
        let other = world.try_ensure("other", &other).await.unwrap();
        let url = bindings["DATABASE_URL"].expose_secret();
        let password = bindings["PGPASSWORD"].expose_secret();
        let port = cluster.port;
        let expected =
            format!("postgres://first:{password}@127.0.0.1:{port}/first?sslmode=disable");
        assert_eq!(url, expected);
        assert_eq!(bindings["PGPORT"].expose_secret(), port.to_string());
        assert!(
            bindings["DATABASE_URL_SECOND"]
                .expose_secret()
                .contains("/second?")
        );

        let client = app(&bindings).await.unwrap();
        client
            .batch_execute("CREATE TABLE kept (n int)")
            .await
            .unwrap();
        client.batch_execute("CREATE ROLE x").await.unwrap_err();
        let into_others = Bindings::from([(
            "DATABASE_URL".to_owned(),
            SecretString::from(url.replace("/first?", "/other?")),
        )]);
        let said = refused(app(&into_others).await);
        assert!(said.contains("permission denied for database"), "{said}");
        drop(client);

        for meddling in [
            "ALTER ROLE first PASSWORD 'meddled'",
            "ALTER ROLE first NOLOGIN",
            "ALTER ROLE first CREATEDB CREATEROLE",
            "GRANT ALL ON DATABASE first TO PUBLIC",
            "GRANT second TO first",
            "ALTER DATABASE first ALLOW_CONNECTIONS false",
        ] {
            cluster.sql(meddling);
            world.try_ensure("mine", &spec).await.unwrap();
            let client = app(&bindings).await.unwrap();
            let state = "SELECT concat_ws(' ', r.rolcreatedb, r.rolcreaterole, to_regclass('kept'), \
                (SELECT count(*) FROM pg_auth_members WHERE member = r.oid)) \
                FROM pg_roles r WHERE rolname = 'first'";
            assert_eq!(one(&client, state).await, "f f kept 0", "{meddling}");
            drop(client);
            let said = refused(app(&into_others).await);
            assert!(said.contains("permission denied for database"), "{said}");
        }
        // What is not ours there is as it was: everybody may still connect to it.
        let into_common = Bindings::from([(
            "DATABASE_URL".to_owned(),
            SecretString::from(url.replace("/first?", "/postgres?")),
        )]);
        app(&into_common).await.unwrap();

        world.postgres.remove(&owner("mine"), false).await.unwrap();
        let said = refused(app(&bindings).await);
        assert!(said.contains("not permitted to log in"), "{said}");
        app(&other).await.unwrap();
        world.try_ensure("mine", &spec).await.unwrap();
        app(&bindings).await.unwrap();
        world.postgres.remove(&owner("mine"), true).await.unwrap();
        let said = refused(app(&bindings).await);
        assert!(said.contains("password authentication failed"), "{said}");
        app(&other).await.unwrap();

        let secrets = fs::read_to_string(world.path("owners/other.toml")).unwrap();
        assert!(
            secrets.contains("-password@"),
            "the way in is kept for the removal"
        );
        assert!(!format!("{:?}", world.postgres).contains("-password"));
        world.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_had_there_is_said() {
    let (cluster, world) = (elsewhere(), World::new());
    cluster.sql("CREATE ROLE nobody LOGIN PASSWORD 'n'");
    cluster.sql("CREATE DATABASE hers");
    let fails = async |spec: &ServiceSpec| {
        let error = world.try_ensure("mine", spec).await.unwrap_err();
        let said = format!("{} {error:?}", chain(&error));
        assert!(!said.contains("-password"), "{said}");
        error
    };

    let error = fails(&of(&cluster, "maker:wrong-password", &["a"], &[])).await;
    assert!(
        matches!(error, ServiceError::AuthRefused { .. }),
        "{error:?}"
    );
    let error = fails(&of(&cluster, ADMINS[1], &["hers"], &[])).await;
    assert_eq!(
        error.to_string(),
        "the database `hers` belongs to `root_user`"
    );
    let error = fails(&of(&cluster, "nobody:n", &["a"], &[])).await;
    assert!(
        chain(&error).contains("permission denied to create role"),
        "{}",
        chain(&error)
    );
    let error = fails(&of(&cluster, ADMINS[1], &["a"], &["no_such_thing"])).await;
    assert!(
        matches!(error, ServiceError::NoSuchExtension { .. }),
        "{error:?}"
    );
    let mut tls = of(&cluster, ADMINS[1], &["a"], &[]);
    tls.url = Some("postgres://maker:maker-password@127.0.0.1/postgres?sslmode=require".into());
    let error = fails(&tls).await;
    assert!(
        matches!(error, ServiceError::InvalidUrl { .. }),
        "{error:?}"
    );
    let mut versioned = of(&cluster, ADMINS[1], &["a"], &[]);
    versioned.version = Some("15".into());
    let error = fails(&versioned).await;
    assert!(matches!(
        error,
        ServiceError::Unsupported { key: "version", .. }
    ));

    // A url alone is a database that exists, wherever the owner's own are.
    let mut alone = of(&cluster, ADMINS[0], &[], &[]);
    let bindings = world.try_ensure("mine", &alone).await.unwrap();
    assert_eq!(bindings["PGUSER"].expose_secret(), "root_user");
    alone.url = None;
    let error = fails(&alone).await;
    assert!(
        matches!(error, ServiceError::OtherVersion { .. }),
        "{error:?}"
    );

    // The socket of the server, as an address.
    let socket = cluster.socket().display().to_string().replace('/', "%2F");
    let mut spec = spec(&["by-socket"], &[]);
    let url = format!("postgres://root_user@{socket}:{}/postgres", cluster.port);
    spec.url = Some(url.into());
    let bindings = world.try_ensure("socketed", &spec).await.unwrap();
    app(&bindings).await.unwrap();
    let ran = cluster
        .psql("SELECT current_database()")
        .envs(
            bindings
                .iter()
                .map(|(name, value)| (name, value.expose_secret())),
        )
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "by-socket\n",
        "{ran:?}"
    );
    world.end().await;
}
