//! Services in the life of an app, with a real PostgreSQL and a real nats-server under the daemon: provisioned once,
//! kept over deploys, crashes and reboots, refused to others, and taken away with the app.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio_postgres::NoTls;
use vela_protocol::ServiceStatus;
use vela_tests::{Options, Output, Release, World, get, kill, shims_of};

/// The variables of an app, as its process has them.
type Env = BTreeMap<String, String>;

fn manifest(app: &str, more: &str) -> String {
    format!(
        "[app]\nname = \"{app}\"\ndomain = \"{app}.localhost\"\n\n[deploy]\nbinary = \"run\"\nhealth = \"/health\"\n\
         drain = 1\nstop_timeout = 3\n{more}\n"
    )
}

const BOTH: &str = "[services.postgres]\n[services.nats]\njetstream = true\n";

/// A release of the demo's app, which does not start without its database.
fn release(manifest: &str) -> Release {
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    Release::script(
        manifest,
        &format!("psql -qc 'select 1' >/dev/null || exit 9\nexec '{program}' demo-app"),
    )
}

async fn env(world: &World, app: &str) -> Env {
    let (status, body) = get(world.http(), &format!("{app}.localhost"), "/env").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The variables that services give.
fn given(env: &Env) -> Env {
    let of_services = |name: &str| {
        ["PG", "DATABASE_URL", "NATS_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let given = env.iter().filter(|(name, _)| of_services(name));
    given
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Runs a statement with the app's own credentials; gives the first column of its rows, or the server's refusal.
async fn sql(url: &str, statement: &str) -> Result<Vec<String>, String> {
    let failed = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(refusal) => refusal.message().to_owned(),
        None => format!("{error:?}"),
    };
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let rows = client.simple_query(statement).await.map_err(failed);
    drop(client);
    // It ends with its client.
    connection.await.unwrap().ok();
    let of = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(rows?.into_iter().filter_map(of).collect())
}

/// This client does not read the credentials in a URL.
async fn nats(env: &Env) -> Result<async_nats::Client, async_nats::ConnectError> {
    let (user, password) = (env["NATS_USER"].clone(), env["NATS_PASSWORD"].clone());
    async_nats::ConnectOptions::with_user_and_password(user, password)
        .connect(env["NATS_URL"].as_str())
        .await
}

/// Publishes to a stream of the app's own and waits for the acknowledgement; gives how many messages it has then.
async fn jetstream(env: &Env, app: &str) -> u64 {
    let client = nats(env).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config {
        name: "kept".into(),
        subjects: vec![format!("{app}.kept")],
        ..Default::default()
    };
    let mut stream = jetstream.get_or_create_stream(config).await.unwrap();
    let sent = jetstream.publish(format!("{app}.kept"), "one".into());
    sent.await.unwrap().await.unwrap();
    stream.info().await.unwrap().state.messages
}

async fn services(world: &World) -> BTreeMap<String, ServiceStatus> {
    let all = world.client().services().await.unwrap();
    all.into_iter().map(|one| (one.kind.clone(), one)).collect()
}

async fn pids(world: &World) -> BTreeMap<String, Option<u32>> {
    let all = services(world).await;
    all.into_iter().map(|(kind, one)| (kind, one.pid)).collect()
}

async fn until(world: &World, what: &str, done: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !done().await {
        assert!(
            Instant::now() < deadline,
            "{what}\n{:?}\n{}",
            services(world).await,
            world.daemon_log()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_healthy(world: &World, app: &str) {
    until(world, "the app is healthy", async || {
        world.status(app).await.health.as_deref() == Some("healthy")
    })
    .await;
}

/// Runs `vela services console` with these words to write to it.
async fn console(world: &World, words: &[&str], input: &str) -> Output {
    let mut command = world.command();
    command.args(["services", "console"]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await;
    ended.unwrap().unwrap().into()
}

/// Ends every process of the world but the test's own, as a power cut does.
async fn power_cut(world: &mut World) {
    world.kill_daemon().await;
    for shim in shims_of(world.data_dir()) {
        kill(shim, Signal::KILL);
    }
    let began = Instant::now();
    while !processes_in(world.data_dir()).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The processes that work in the data directory: apps and servers, with what these have started.
fn processes_in(data_dir: &Path) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let works_there = |pid: &u32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(data_dir))
    };
    pids.filter(works_there).collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_deploy_has_them_made_and_later_ones_keep_them() {
    let world = World::new().await;
    let text = manifest(
        "shop",
        "pre_start = \"psql -qc 'create table if not exists seen (release text)' && \
         psql -qc \\\"insert into seen values ('$VELA_RELEASE')\\\"\"\n\
         [services.postgres]\nversion = 15\ndatabases = [\"shop\", \"shop_audit\"]\nextensions = [\"pg_trgm\"]\n\
         [services.nats]\njetstream = { storage = \"16M\" }\n",
    );
    let release = release(&text);
    world.deploy(&release).await.expect(0);
    let first = given(&env(&world, "shop").await);
    let names: Vec<_> = first.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "DATABASE_URL",
            "DATABASE_URL_SHOP",
            "DATABASE_URL_SHOP_AUDIT",
            "NATS_PASSWORD",
            "NATS_URL",
            "NATS_USER",
            "PGDATABASE",
            "PGHOST",
            "PGPASSWORD",
            "PGPORT",
            "PGUSER",
        ]
    );
    let rows = "select release from seen order by 1";
    let seen = sql(&first["DATABASE_URL"], rows).await.unwrap();
    assert_eq!(seen, [world.current("shop").unwrap()]);
    let audit = &first["DATABASE_URL_SHOP_AUDIT"];
    let extensions = "select extname from pg_extension where extname = 'pg_trgm'";
    assert_eq!(sql(audit, extensions).await.unwrap(), ["pg_trgm"]);
    assert_eq!(jetstream(&first, "shop").await, 1);

    let before = pids(&world).await;
    assert!(before.values().all(Option::is_some), "{before:?}");
    world.deploy(&release).await.expect(0);
    assert_eq!(given(&env(&world, "shop").await), first);
    assert_eq!(pids(&world).await, before);
    assert_eq!(sql(&first["DATABASE_URL"], rows).await.unwrap().len(), 2);
    assert_eq!(jetstream(&first, "shop").await, 2);

    // A release that asks for none leaves them where they are; going back finds them.
    release.set_manifest(&manifest("shop", ""));
    release.write(
        "run",
        &format!(
            "#!/bin/sh\nexec '{}' demo-app\n",
            env!("CARGO_BIN_EXE_vela-under-test")
        ),
    );
    world.deploy(&release).await.expect(0);
    assert!(given(&env(&world, "shop").await).is_empty());
    assert_eq!(pids(&world).await, before);
    world.vela(&["rollback", "shop"]).await.expect(0);
    assert_eq!(given(&env(&world, "shop").await), first);
    assert_eq!(sql(&first["DATABASE_URL"], rows).await.unwrap().len(), 2);

    // What the commands show.
    let list = world.vela(&["services", "list"]).await.expect(0).stdout;
    for text in ["postgres-15", "nats", "127.0.0.1:", "shop"] {
        assert!(list.contains(text), "{text}: {list}");
    }
    let masked = world.vela(&["services", "show", "shop"]).await.expect(0);
    let revealed = world
        .vela(&["services", "show", "shop", "--reveal", "--json"])
        .await;
    let revealed = revealed.expect(0).json();
    assert_eq!(revealed["postgres"]["DATABASE_URL"], first["DATABASE_URL"]);
    assert_eq!(revealed["nats"]["NATS_URL"], first["NATS_URL"]);
    assert!(masked.stdout.contains(&first["PGUSER"]), "{masked:?}");
    for (name, lines) in [("postgres-15", 5), ("nats", 5), ("postgres", 1)] {
        let lines = lines.to_string();
        let logs = world
            .vela(&["services", "logs", name, "-n", &lines])
            .await
            .expect(0);
        assert_eq!(logs.stdout.lines().count().to_string(), lines, "{logs:?}");
    }
    world.vela(&["services", "logs", "other"]).await.expect(1);

    // Consoles have the app's own credentials.
    let said = console(
        &world,
        &["postgres", "shop", "--", "-At"],
        "select current_user;\n",
    )
    .await;
    assert_eq!(said.expect(0).stdout.trim(), first["PGUSER"]);
    let words = [
        "postgres",
        "shop",
        "-d",
        "shop_audit",
        "--",
        "-Atc",
        "select current_database()",
    ];
    assert_eq!(
        console(&world, &words, "").await.expect(0).stdout,
        "shop_audit\n"
    );
    let said = console(
        &world,
        &["nats", "shop"],
        "sub shop.talk\npub shop.talk hello there\n",
    )
    .await;
    assert_eq!(said.expect(0).stdout, "shop.talk: hello there\n");

    // No password is anywhere but in files that only root, or the server's user, can read.
    let audit = audit.split(['@', ':']).nth(2).unwrap();
    let passwords = [first["PGPASSWORD"].as_str(), &first["NATS_PASSWORD"], audit];
    let all_of = |texts: &[&str], place: &str| {
        for (text, password) in texts
            .iter()
            .flat_map(|text| passwords.map(|one| (text, one)))
        {
            assert!(!text.contains(password), "a password is in {place}");
        }
    };
    all_of(&[&masked.stdout, &list], "what the commands print");
    all_of(&[&world.daemon_log()], "the daemon's log");
    for file in files_below(world.data_dir()) {
        // A server may have removed it meanwhile.
        let bytes = std::fs::read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if passwords.iter().any(|password| text.contains(password)) {
            let owners = file.components().any(|part| part.as_os_str() == "owners");
            assert!(owners, "a password is in {}", file.display());
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
    }
    for pid in processes_in(world.data_dir()) {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        all_of(
            &[&String::from_utf8_lossy(&words)],
            "the arguments of a process",
        );
    }
    let mode = |path: &str| {
        let path = world.data_dir().join(path);
        path.metadata().unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("services"), 0o711);
    assert_eq!(mode("services/logs"), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_themselves_refuse_an_app_what_is_another_s() {
    let world = World::new().await;
    for app in ["one", "other"] {
        world.deploy(&release(&manifest(app, BOTH))).await.expect(0);
    }
    let (one, other) = (env(&world, "one").await, env(&world, "other").await);
    let table = "create table private as select 'secret' as value";
    sql(&other["DATABASE_URL"], table).await.unwrap();

    // The other's database, with its own role.
    let crossed = format!("{}/other", one["DATABASE_URL"].rsplit_once('/').unwrap().0);
    let refused = sql(&crossed, "select 1").await.unwrap_err();
    assert!(
        refused.contains("permission denied for database"),
        "{refused}"
    );
    // The other's role, with its own password.
    let crossed = crossed.replacen("://one:", "://other:", 1);
    let refused = sql(&crossed, "select 1").await.unwrap_err();
    assert!(
        refused.contains("password authentication failed"),
        "{refused}"
    );
    for statement in ["create database mine", "set role other", "create role mine"] {
        let refused = sql(&one["DATABASE_URL"], statement).await.unwrap_err();
        assert!(
            refused.contains("permission denied"),
            "{statement}: {refused}"
        );
    }

    // The other's subjects: neither written nor read.
    assert_eq!(jetstream(&other, "other").await, 1);
    let words = "sub other.>\npub other.kept forged\nsub one.x\npub one.x own\n";
    let said = console(&world, &["nats", "one"], words).await.expect(0);
    assert_eq!(said.stdout, "one.x: own\n");
    let refusals = said.stderr.matches("Permissions Violation").count();
    assert_eq!(refusals, 2, "{said:?}");
    assert_eq!(jetstream(&other, "other").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_comes_back_and_the_apps_go_on() {
    let mut world = World::new().await;
    world
        .deploy(&release(&manifest("shop", BOTH)))
        .await
        .expect(0);
    let app = world.status("shop").await.pid;
    let variables = env(&world, "shop").await;
    sql(&variables["DATABASE_URL"], "create table kept as select 1")
        .await
        .unwrap();

    // Under the daemon that started them, then under the next one, which adopts them.
    for restarted in [false, true] {
        let before = pids(&world).await;
        if restarted {
            world.kill_daemon().await;
            world.start(&[]).await;
            assert_eq!(pids(&world).await, before);
            until_healthy(&world, "shop").await;
        }
        for (kind, pid) in &before {
            kill(pid.unwrap(), Signal::KILL);
            until(&world, &format!("{kind} is back"), async || {
                let now = services(&world).await;
                now[kind].pid.is_some_and(|now| Some(now) != *pid) && now[kind].restarts == 1
            })
            .await;
        }
        until(&world, "its connections work again", async || {
            let rows = sql(&variables["DATABASE_URL"], "select * from kept").await;
            rows.is_ok_and(|rows| rows == ["1"]) && nats(&variables).await.is_ok()
        })
        .await;
        assert!(jetstream(&variables, "shop").await > 0);
        assert_eq!(world.status("shop").await.pid, app);
        assert_eq!(world.status("shop").await.restarts, 0);
    }
    assert_eq!(jetstream(&variables, "shop").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_cut_the_services_are_back_before_the_apps_that_need_them() {
    let mut world = World::new().await;
    world
        .deploy(&release(&manifest("shop", BOTH)))
        .await
        .expect(0);
    let plain = Release::demo_app(&manifest("plain", ""), "");
    world.deploy(&plain).await.expect(0);
    let variables = given(&env(&world, "shop").await);
    sql(&variables["DATABASE_URL"], "create table kept as select 1")
        .await
        .unwrap();
    assert_eq!(jetstream(&variables, "shop").await, 1);

    power_cut(&mut world).await;
    world.start(&[]).await;
    until_healthy(&world, "plain").await;
    until_healthy(&world, "shop").await;
    // Its start script ends without a database: it was not even tried before.
    assert_eq!(world.status("shop").await.restarts, 0);
    assert!(
        !world.daemon_log().contains("could not be started"),
        "{}",
        world.daemon_log()
    );
    assert_eq!(given(&env(&world, "shop").await), variables);
    let rows = sql(&variables["DATABASE_URL"], "select * from kept").await;
    assert_eq!(rows.unwrap(), ["1"]);
    assert_eq!(jetstream(&variables, "shop").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_app_can_come_back_to_its_data_until_it_is_purged() {
    let world = World::new().await;
    let release = release(&manifest("shop", BOTH));
    world.deploy(&release).await.expect(0);
    let variables = given(&env(&world, "shop").await);
    let url = &variables["DATABASE_URL"];
    sql(url, "create table kept as select 1").await.unwrap();
    assert_eq!(jetstream(&variables, "shop").await, 1);

    world.vela(&["remove", "shop", "--yes"]).await.expect(0);
    sql(url, "select 1").await.unwrap_err();
    nats(&variables).await.unwrap_err();
    let list = world.vela(&["services", "list"]).await.expect(0).stdout;
    assert!(
        list.contains("shop") && list.contains("[removed]"),
        "{list}"
    );

    world.deploy(&release).await.expect(0);
    assert_eq!(given(&env(&world, "shop").await), variables);
    assert_eq!(sql(url, "select * from kept").await.unwrap(), ["1"]);
    assert_eq!(jetstream(&variables, "shop").await, 2);

    world
        .vela(&["remove", "shop", "--purge", "--yes"])
        .await
        .expect(0);
    let pids = pids(&world).await;
    assert!(pids.values().all(Option::is_none), "{pids:?}");
    assert!(processes_in(world.data_dir()).is_empty());
    world.deploy(&release).await.expect(0);
    let again = given(&env(&world, "shop").await);
    assert_ne!(again["PGPASSWORD"], variables["PGPASSWORD"]);
    sql(&again["DATABASE_URL"], "select * from kept")
        .await
        .unwrap_err();
    assert_eq!(jetstream(&again, "shop").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_provisioned_aborts_before_pre_start_and_says_why() {
    let config = "[services.nats]\nurl = \"http://127.0.0.1:1/nats-{version}-{arch}.tar.gz\"\nversion = \"2.99.0\"\n\
        sha256 = { amd64 = \"0000000000000000000000000000000000000000000000000000000000000000\", arm64 = \"0000000000000000000000000000000000000000000000000000000000000000\" }\n";
    let world = World::with(Options {
        config: config.to_owned(),
        ..Options::default()
    })
    .await;
    let release = release(&manifest("shop", "[services.postgres]\n"));
    world.deploy(&release).await.expect(0);
    let (old, pid) = (
        world.current("shop").unwrap(),
        world.status("shop").await.pid,
    );

    let marker = "pre_start = \"touch $VELA_DATA_DIR/hook_ran\"\n";
    let refused = async |services: &str| {
        release.set_manifest(&manifest("shop", &format!("{marker}{services}")));
        let output = world.deploy(&release).await.expect(3);
        let end = format!("`shop` still serves {old}");
        assert!(output.stderr.trim_end().ends_with(&end), "{output:?}");
        assert!(!world.app_dir("shop").join("data/hook_ran").exists());
        assert_eq!(world.status("shop").await.pid, pid);
        assert_eq!(world.names("shop", "releases"), std::slice::from_ref(&old));
        output.stderr
    };
    let said = refused("[services.postgres]\nextensions = [\"no_such_extension\"]\n").await;
    assert!(said.contains("no_such_extension"), "{said}");
    let said = refused("[services.postgres]\n[services.nats]\nversion = \"2.99\"\n").await;
    assert!(
        said.contains("could not be downloaded from http://127.0.0.1:1/"),
        "{said}"
    );
    let said = refused("[services.postgres]\n[services.x-other]\n").await;
    assert!(said.contains("this server provisions no `other`"), "{said}");

    // A server that does not start any more: its own last words are in the error.
    let control = world
        .data_dir()
        .join("services/postgres/15/data/global/pg_control");
    std::fs::write(&control, "not what it was").unwrap();
    kill(pids(&world).await["postgres"].unwrap(), Signal::KILL);
    let said = refused("[services.postgres]\n").await;
    assert!(
        said.contains("postgres-15") && said.contains("pg_control"),
        "{said}"
    );
}

/// Its user and what it had, which no other test and no real app of this machine has.
struct Own(String);

impl Drop for Own {
    fn drop(&mut self) {
        // Its processes were killed with the world, which may take the kernel a moment.
        for _ in 0..100 {
            let mut userdel = std::process::Command::new("userdel");
            userdel
                .arg(format!("vela-{}", self.0))
                .stderr(Stdio::null());
            if userdel.status().unwrap().success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_s_user_reads_nothing_of_the_services_and_reaches_its_own() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    let own = Own(format!("test-{}", &id[..8]));
    let mut world = World::stopped(Options {
        isolate: true,
        ..Options::default()
    });
    let program = world.dir().join("vela");
    std::fs::copy(env!("CARGO_BIN_EXE_vela-under-test"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.start(&[]).await;

    let app = &own.0;
    let state = world.data_dir().join("services");
    let release = Release::script(
        &manifest(
            app,
            &format!("pre_start = \"exec sh attempts\"\n{BOTH}[env]\nSTATE = {state:?}"),
        ),
        &format!("exec '{}' demo-app", program.display()),
    );
    release.write(
        "attempts",
        &format!(
            "cd /\nfor path in . logs logs/postgres-15.log logs/nats.log postgres postgres/owners postgres/owners/{app}.toml \
             postgres/15 postgres/15/server.toml postgres/15/run postgres/15/data postgres/15/data/PG_VERSION \
             nats nats/nats.conf nats/server.toml nats/owners nats/owners/{app}.toml nats/store; do\n\
             if ls $STATE/$path/ >/dev/null 2>&1; then echo could list $path; fi\n\
             if cat $STATE/$path >/dev/null 2>&1; then echo could read $path; fi\n\
             if touch $STATE/$path/planted 2>/dev/null; then echo could write $path; fi\ndone\n\
             if psql -h $STATE/postgres/15/run -U postgres -d postgres -c 'select 1' 2>/dev/null; then echo could be postgres; fi\n\
             psql -Atc \"select 'is ' || current_user\"\n"
        ),
    );
    let said = world.deploy(&release).await.expect(0).stderr;
    assert!(!said.contains("could "), "{said}");
    assert!(
        said.contains(&format!("is {}", app.replace('-', "_"))),
        "{said}"
    );
    // None of that failed because there was nothing.
    for path in [
        "logs/nats.log",
        "postgres/15/data/PG_VERSION",
        "nats/nats.conf",
    ] {
        assert!(state.join(path).is_file(), "{path}");
    }
    for pid in pids(&world).await.into_values() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap())).unwrap();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        assert_ne!(
            uid.unwrap().split_whitespace().next(),
            Some("0"),
            "a server runs as root"
        );
    }
}
