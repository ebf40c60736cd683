//! What was meddled with is put right, and what belongs to others is left alone.

use std::fs;

use secrecy::ExposeSecret;
use vela_services::{Provisioner, ServiceError};

use crate::world::{World, app, connect, one, owner, refused, spec};

#[tokio::test]
async fn whatever_was_changed_is_put_right() {
    let world = World::new();
    let spec = spec(&[], &["citext"]);
    let bindings = world.try_ensure("mine", &spec).await.unwrap();
    let others = world.ensure("others").await;
    let client = app(&bindings).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .unwrap();
    drop(client);

    for meddling in [
        "ALTER ROLE mine PASSWORD 'meddled'",
        "ALTER ROLE mine PASSWORD NULL",
        "ALTER ROLE mine NOLOGIN",
        "ALTER ROLE mine SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS",
        "ALTER ROLE mine VALID UNTIL '2001-01-01'",
        "COMMENT ON ROLE mine IS NULL",
        "GRANT pg_execute_server_program, others TO mine",
        "GRANT CONNECT ON DATABASE mine TO PUBLIC",
        "GRANT CONNECT ON DATABASE postgres TO PUBLIC",
        "GRANT ALL ON DATABASE template1 TO PUBLIC",
        "ALTER DATABASE mine OWNER TO postgres",
        "ALTER DATABASE mine OWNER TO others",
        "ALTER DATABASE mine ALLOW_CONNECTIONS false",
        "ALTER DATABASE mine SET search_path = nowhere",
        "ALTER DATABASE mine SET default_transaction_read_only = on",
    ] {
        world.sql(meddling).await;
        let again = world.try_ensure("mine", &spec).await.unwrap();
        for (name, value) in &bindings {
            assert_eq!(again[name].expose_secret(), value.expose_secret());
        }
        let client = app(&bindings).await.unwrap();
        let state = "SELECT concat_ws(' ', r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, \
            r.rolreplication, r.rolbypassrls, (SELECT count(*) FROM pg_auth_members \
            WHERE member = r.oid), pg_get_userbyid(d.datdba), d.datallowconn) \
            FROM pg_roles r, pg_database d WHERE r.rolname = 'mine' AND d.datname = 'mine'";
        assert_eq!(
            one(&client, state).await,
            "t f f f f f 0 mine t",
            "{meddling}"
        );
        let table = "SELECT relname::text FROM pg_class WHERE relname = 'kept'";
        assert_eq!(one(&client, table).await, "kept", "{meddling}");
        let stranger = app(&others).await.unwrap();
        for database in ["mine", "postgres", "template1"] {
            let may = format!("SELECT has_database_privilege('{database}', 'CONNECT')::text");
            assert_eq!(one(&stranger, &may).await, "false", "{meddling}");
        }
    }

    let database = world.superuser("mine").await;
    for statement in [
        "SET default_transaction_read_only = off",
        "DROP EXTENSION citext",
    ] {
        database.batch_execute(statement).await.unwrap();
    }
    world.try_ensure("mine", &spec).await.unwrap();
    let client = app(&bindings).await.unwrap();
    client
        .batch_execute("SELECT 'a'::public.citext")
        .await
        .unwrap();
    world.end().await;
}

#[tokio::test]
async fn what_is_gone_is_made_again() {
    let world = World::new();
    let bindings = world.ensure("mine").await;
    world.sql("DROP DATABASE mine").await;
    world.ensure("mine").await;
    app(&bindings).await.unwrap();

    world.sql("DROP DATABASE mine").await;
    world.sql("DROP ROLE mine").await;
    world.ensure("mine").await;
    app(&bindings).await.unwrap();

    // The role alone, with its database given to somebody else first.
    let client = app(&bindings).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int)")
        .await
        .unwrap();
    drop(client);
    let database = world.superuser("mine").await;
    database
        .batch_execute("REASSIGN OWNED BY mine TO postgres; DROP OWNED BY mine; DROP ROLE mine")
        .await
        .unwrap();
    drop(database);
    world.ensure("mine").await;
    let client = app(&bindings).await.unwrap();
    let table = "SELECT relname::text FROM pg_class WHERE relname = 'kept'";
    assert_eq!(one(&client, table).await, "kept");
    world.end().await;
}

#[tokio::test]
async fn what_belongs_to_others_is_never_taken() {
    let world = World::new();
    world.ensure("first").await;
    let error = world
        .try_ensure("second", &spec(&["first"], &[]))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the database `first` belongs to `first`");

    world.sql("CREATE DATABASE by_hand").await;
    world
        .sql("CREATE ROLE somebody LOGIN PASSWORD 'hers'")
        .await;
    let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'somebody'";
    let client = world.superuser("postgres").await;
    let before = one(&client, verifier).await;
    for (name, said) in [
        ("by_hand", "the database `by_hand` belongs to `postgres`"),
        ("somebody", "the role `somebody` belongs to `somebody else`"),
    ] {
        for _ in 0..2 {
            let asked = world
                .try_ensure("second", &spec(&["good", name], &[]))
                .await;
            let error = asked.unwrap_err();
            assert!(matches!(error, ServiceError::Taken { .. }), "{error:?}");
            assert_eq!(error.to_string(), said);
        }
    }
    assert_eq!(one(&client, verifier).await, before);
    assert!(!world.path("owners/second.toml").exists());

    // Nor by one who has written down that it wants it, nor by its purge.
    let record = fs::read_to_string(world.path("owners/first.toml")).unwrap();
    let record = record.replace("created = true", "created = false");
    let count = "SELECT count(*)::text FROM (SELECT datname FROM pg_database UNION ALL \
        SELECT rolname FROM pg_roles) AS x (name) WHERE name IN ('by_hand', 'somebody')";
    for name in ["by_hand", "somebody"] {
        let record = record.replace("\"first\"", &format!("{name:?}"));
        fs::write(world.path("owners/second.toml"), record).unwrap();
        let error = world
            .try_ensure("second", &spec(&[name], &[]))
            .await
            .unwrap_err();
        assert!(matches!(error, ServiceError::Taken { .. }), "{error:?}");
        assert_eq!(one(&client, count).await, "2");
        world.postgres.remove(&owner("second"), true).await.unwrap();
        assert_eq!(one(&client, count).await, "2");
        assert_eq!(one(&client, verifier).await, before);
    }
    world.end().await;
}

#[tokio::test]
async fn an_extension_is_made_without_a_look_at_what_the_owner_planted() {
    let world = World::new();
    let bindings = world.ensure("mine").await;
    let client = app(&bindings).await.unwrap();
    // What a superuser would call if the owner's meaning of a name came first.
    client
        .batch_execute(
            "CREATE SCHEMA trap; \
             CREATE FUNCTION trap.sprung(varchar) RETURNS bool LANGUAGE plpgsql AS \
               $$ BEGIN ALTER ROLE mine SUPERUSER; RETURN true; END $$; \
             CREATE DOMAIN trap.text AS varchar CHECK (trap.sprung(VALUE)); \
             CREATE VIEW trap.pg_extension AS SELECT 'pg_trgm'::name AS extname; \
             CREATE VIEW trap.pg_available_extensions AS SELECT 'evil'::name AS name; \
             ALTER DATABASE mine SET search_path = trap, pg_catalog",
        )
        .await
        .unwrap();
    world
        .try_ensure("mine", &spec(&[], &["pg_trgm"]))
        .await
        .unwrap();
    let client = app(&bindings).await.unwrap();
    let schema = "SELECT extnamespace::regnamespace::pg_catalog.text FROM pg_catalog.pg_extension \
        WHERE extname = 'pg_trgm'";
    assert_eq!(one(&client, schema).await, "public");
    let rights = "SELECT rolsuper::pg_catalog.text FROM pg_roles WHERE rolname = 'mine'";
    assert_eq!(one(&client, rights).await, "false");
    let error = world
        .try_ensure("mine", &spec(&[], &["no_such_thing"]))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`postgres` at 127.0.0.1:{} has no extension `no_such_thing`",
            world.port()
        )
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains("postgresql-15-no_such_thing"), "{hint}");
    // The rest of the server is as it was.
    let said = refused(
        connect(
            &format!("host=127.0.0.1 port={} user=mine", world.port())
                .parse()
                .unwrap(),
        )
        .await,
    );
    assert!(said.contains("password missing"), "{said}");
    world.end().await;
}
