use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use vela_tests::{Release, World, get, processes_of};

use super::{HOST, begin, end, exists, expect_in_order, manifest, vela_reading};

const VALUE: &str = "hunter2-correct-horse-battery";
const SECOND: &str = "hunter3-donkey-dynamo-staple";

/// A secret in the environment as it is and inside another value; hooks that wait, so that there is a time to look.
fn release(args: &str) -> Release {
    // One that never becomes healthy is soon given up; the others have all the time that they need.
    let retries = match args.contains("--health-status") {
        true => ", retries = 2, interval = \"100ms\"",
        false => "",
    };
    let health = format!("health = {{ path = \"/health\"{retries} }}");
    let hook = "pre_start = \"test -n \\\"$API_KEY\\\"; touch $VELA_DATA_DIR/reached; until [ -e $VELA_DATA_DIR/go ]; do sleep 0.01; done\"";
    let manifest = format!(
        "{}\n[env]\nURL = \"https://${{secret:API_KEY}}@example\"\n",
        manifest(&format!("{health}\n{hook}"))
    );
    Release::demo_app(&manifest, args)
}

#[tokio::test]
async fn a_secret_is_in_the_app_and_nowhere_else() {
    let mut world = World::new().await;
    let mut said = Vec::new();
    let set = ["secret", "set", "--app", "shop", "API_KEY"];
    said.push(
        vela_reading(&world, &set, &format!("{VALUE}\n"))
            .await
            .expect(0),
    );
    let import = format!("# of the payment service\nexport OTHER='{SECOND}'\n");
    said.push(
        vela_reading(&world, &["secret", "import", "--app", "shop"], &import)
            .await
            .expect(0),
    );
    let list = world
        .vela(&["secret", "list", "--app", "shop"])
        .await
        .expect(0);
    assert_eq!(list.stdout, "API_KEY\nOTHER\n");
    said.push(list);

    // While a hook runs, and then the app.
    let good = release("");
    let deploy = begin(&world, &good);
    let data = world.app_dir("shop").join("data");
    exists(&data.join("reached")).await;
    expect_not_in_argv();
    std::fs::write(data.join("go"), "").unwrap();
    said.push(end(deploy).await.expect(0));
    expect_not_in_argv();
    let (_, env) = get(world.http(), HOST, "/env").await;
    let env: serde_json::Value = serde_json::from_str(&env).unwrap();
    assert_eq!(env["API_KEY"], VALUE);
    assert_eq!(env["OTHER"], SECOND);
    assert_eq!(env["URL"], format!("https://{VALUE}@example"));

    // What fails tells much, but not that; and neither does anything that can be asked.
    said.push(world.deploy(&release("--exit-at-once 1")).await.expect(3));
    said.push(
        world
            .deploy(&release("--health-status 500"))
            .await
            .expect(3),
    );
    for args in [
        &["status", "shop"][..],
        &["apps", "--json"],
        &["history", "shop", "--json"],
        &["releases", "shop", "--json"],
        &["logs", "shop", "--json"],
        &["secret", "list", "--app", "shop", "--json"],
        &[
            "secret",
            "set",
            "--app",
            "shop",
            "not-a-name=hunter2-correct-horse-battery",
        ],
        &["secret", "remove", "--app", "shop", "NO_SUCH"],
    ] {
        said.push(world.vela(args).await);
    }
    let bad = format!("FINE=1\n{VALUE}\n");
    said.push(
        vela_reading(&world, &["secret", "import", "--app", "shop"], &bad)
            .await
            .expect(1),
    );
    world.stop_daemon().await;
    world.start(&[("VELA_LOG", "trace")]).await;
    said.push(world.vela(&["restart", "shop"]).await.expect(0));
    world.stop_daemon().await;
    for output in &said {
        assert!(!leaks(output.stdout.as_bytes()), "{output:?}");
        assert!(!leaks(output.stderr.as_bytes()), "{output:?}");
    }

    // On disk it is in the secrets' own files, for their owner alone.
    let mut found = Vec::new();
    search(world.dir(), &mut found);
    let secrets = world.app_dir("shop").join("secrets");
    assert!(!found.is_empty());
    for path in &found {
        assert_eq!(path.parent(), Some(secrets.as_path()), "{found:?}");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let mode = secrets.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn the_next_restart_takes_what_was_changed_and_a_rollback_what_was() {
    let world = World::new().await;
    let hookless = format!(
        "{}\n[env]\nURL = \"${{secret:API_KEY}}\"\n",
        manifest("health = \"/health\"")
    );
    let release = Release::demo_app(&hookless, "");
    let set = async |value: &str| {
        let args = ["secret", "set", "--app", "shop", "API_KEY"];
        vela_reading(&world, &args, value).await.expect(0)
    };
    let url = async || {
        let (_, env) = get(world.http(), HOST, "/env").await;
        let env: serde_json::Value = serde_json::from_str(&env).unwrap();
        env["URL"].as_str().unwrap().to_owned()
    };
    set("one").await;
    world.deploy(&release).await.expect(0);
    let told = set("two").await;
    expect_in_order(&told.stderr, &["`vela restart shop`"]);
    assert_eq!(url().await, "one");
    world.vela(&["restart", "shop"]).await.expect(0);
    assert_eq!(url().await, "two");
    set("three").await;
    world.deploy(&release).await.expect(0);
    assert_eq!(url().await, "three");
    world.vela(&["rollback", "shop"]).await.expect(0);
    assert_eq!(url().await, "two");
    world
        .vela(&["secret", "remove", "--app", "shop", "API_KEY"])
        .await
        .expect(0);
    // It is refused before anything starts, and what runs goes on.
    let refused = world.vela(&["restart", "shop"]).await.expect(1);
    expect_in_order(
        &refused.stderr,
        &["needs the secret `API_KEY`", "still serves"],
    );
    assert_eq!(url().await, "two");
    assert_eq!(processes_of(world.data_dir()).len(), 1);
}

fn leaks(bytes: &[u8]) -> bool {
    let has = |what: &str| {
        bytes
            .windows(what.len())
            .any(|seen| seen == what.as_bytes())
    };
    has(VALUE) || has(SECOND)
}

/// `ps` shows every process's arguments to everyone.
fn expect_not_in_argv() {
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path().join("cmdline");
        let cmdline = std::fs::read(&path).unwrap_or_default();
        assert!(
            !leaks(&cmdline),
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&cmdline)
        );
    }
}

/// Every file below `dir` that has a secret in it.
fn search(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            search(&path, found);
        } else if kind.is_file() && leaks(&std::fs::read(&path).unwrap()) {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn a_secret_on_the_wire_is_for_who_may_use_the_socket() {
    let world = World::new().await;
    let mode = world.socket().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    // What listens in place of the daemon is another matter: nothing is sent to what is no daemon.
    let path = world.dir().join("false.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut child = world
        .command()
        .args(["-s", &format!("unix://{}", path.display())])
        .args([
            "secret",
            "set",
            "--app",
            "shop",
            // Not the value that another test looks for in the arguments of every process.
            "API_KEY=given-away",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    drop(stream);
    let ended = tokio::time::timeout(super::PATIENCE, child.wait()).await;
    assert!(!ended.unwrap().unwrap().success());
}
