//! Apps that listen elsewhere than on 127.0.0.1: all that is done to an app is done to them too.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::{Instant, sleep};
use vela_cli::demo::load::{Load, LoadHandle, LoadOptions, Mark};
use vela_protocol::{AppState, AppStatus};
use vela_tests::{Artifact, Deploy, Options, Release, World, expect_no_failure, get, processes_of};

const HOST: &str = "shop.localhost";

/// The manifest of `shop`, with these lines in `[app]` and `[deploy]`.
fn manifest(app: &str, deploy: &str) -> String {
    format!(
        "[app]\nname = \"shop\"\ndomain = \"{HOST}\"\n{app}\n\n[deploy]\nbinary = \"run\"\ndrain = 5\nstop_timeout = 3\n{deploy}\n"
    )
}

fn artifact(app: &str, deploy: &str, args: &str) -> Artifact {
    let manifest = manifest(app, deploy);
    Artifact::of("shop", &manifest, &Release::demo_app(&manifest, args))
}

/// Short requests, two of three on kept connections, and slow ones.
fn put_on(world: &World, release: &str) -> LoadHandle {
    let options = LoadOptions {
        workers: 4,
        rate: 80,
        slow: 2,
        slow_for: Duration::from_millis(300),
        websockets: 0,
        ..LoadOptions::default()
    };
    let mut load = Load::start(world.http(), HOST, options).unwrap();
    load.mark(Mark::Serves(vec![release.to_owned()]));
    load
}

async fn more_requests(load: &LoadHandle) {
    let (wanted, began) = (load.requests() + 30, Instant::now());
    while load.requests() < wanted {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the load stands still"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the app runs, as another process than `old`.
async fn running(world: &World, old: Option<u32>) -> AppStatus {
    let began = Instant::now();
    loop {
        let status = world.status("shop").await;
        if status.state == AppState::Running && (old.is_none() || status.pid != old) {
            return status;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{status:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Deploys, restarts and rolls back under load, then kills the daemon, then the app. `expect` looks at each instance
/// that serves.
async fn lives(shop: &Artifact, expect: impl Fn(&World, &AppStatus)) {
    let mut world = World::new().await;
    let first = shop.deploy(&world).await.succeed().await;
    expect(&world, &world.status("shop").await);
    let mut load = put_on(&world, &first);
    more_requests(&load).await;
    for _ in 0..3 {
        let deploy = shop.deploy(&world).await;
        deploy.tell(&mut load);
        more_requests(&load).await;
        expect(&world, &world.status("shop").await);
    }
    let before = world.status("shop").await.pid;
    world.vela(&["restart", "shop"]).await.expect(0);
    more_requests(&load).await;
    assert_ne!(world.status("shop").await.pid, before);
    expect(&world, &world.status("shop").await);
    let mut rollback = Deploy::roll_back(&world, "shop").await;
    let release = rollback.succeed().await;
    rollback.tell(&mut load);
    more_requests(&load).await;
    expect_no_failure(&load.stop().await.unwrap());

    // A new daemon adopts the instance, and serves by it.
    let before = world.status("shop").await;
    for _ in 0..2 {
        world.kill_daemon().await;
        assert_eq!(processes_of(world.data_dir()), Vec::from_iter(before.pid));
        world.start(&[]).await;
        let status = running(&world, None).await;
        assert_eq!(status.pid, before.pid);
        expect(&world, &status);
        let load = put_on(&world, &release);
        more_requests(&load).await;
        expect_no_failure(&load.stop().await.unwrap());
    }

    // It is started again where it crashed, and where nothing was there to see it.
    let pid = before.pid.unwrap();
    vela_tests::kill(pid, rustix::process::Signal::KILL);
    let status = running(&world, Some(pid)).await;
    expect(&world, &status);
    world.kill_daemon().await;
    let pid = status.pid.unwrap();
    vela_tests::kill(pid, rustix::process::Signal::KILL);
    world.start(&[]).await;
    let status = running(&world, Some(pid)).await;
    expect(&world, &status);
    let load = put_on(&world, &release);
    more_requests(&load).await;
    let mut load_of_deploy = load;
    let deploy = shop.deploy(&world).await;
    deploy.tell(&mut load_of_deploy);
    more_requests(&load_of_deploy).await;
    expect_no_failure(&load_of_deploy.stop().await.unwrap());
    let status = world.status("shop").await;
    expect(&world, &status);
    assert_eq!(processes_of(world.data_dir()), Vec::from_iter(status.pid));
}

/// Whether this machine has it. Where it has not, nothing can listen there.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn expect_ipv6(_: &World, status: &AppStatus) {
    let wanted = format!("[::1]:{}", status.port.unwrap());
    assert_eq!(status.instances[0].address.as_ref(), Some(&wanted));
}

#[tokio::test]
async fn an_app_on_ipv6_is_deployed_adopted_and_rolled_back() {
    if !has_ipv6() {
        return;
    }
    for health in ["health = \"/health\"", "health = { tcp = true }"] {
        let shop = artifact("listen = \"::1\"", health, "--listen ::1");
        lives(&shop, expect_ipv6).await;
    }
}

/// It has the socket that its port names, and no other is left of those that went before it.
fn expect_unix(world: &World, status: &AppStatus) {
    let port = status.port.unwrap().to_string();
    let path = world.app_dir("shop").join("sockets").join(&port);
    let wanted = format!("unix:{}", path.display());
    assert_eq!(status.instances[0].address, Some(wanted));
    assert_eq!(world.names("shop", "sockets"), [port]);
}

#[tokio::test]
async fn an_app_on_a_unix_socket_is_deployed_adopted_and_rolled_back() {
    for health in [
        "health = \"/health\"",
        "health = { tcp = true }",
        "health = \"/health\"\nstrategy = \"sequential\"",
    ] {
        let shop = artifact("listen = \"unix\"", health, "--unix");
        lives(&shop, expect_unix).await;
    }
}

#[tokio::test]
async fn an_app_on_another_address_takes_over_from_one_on_ipv4_and_back() {
    type Expect = fn(&World, &AppStatus);
    let v6: (_, _, Expect) = ("::1", "--listen ::1", expect_ipv6);
    let unix: (_, _, Expect) = ("unix", "--unix", expect_unix);
    let others = if has_ipv6() {
        vec![v6, unix]
    } else {
        vec![unix]
    };
    for (strategy, (listen, args, expect)) in ["blue-green", "sequential"]
        .iter()
        .flat_map(|strategy| others.iter().map(move |other| (strategy, other)))
    {
        let deploy = format!("health = \"/health\"\nstrategy = \"{strategy}\"");
        let world = World::new().await;
        let v4 = artifact("", &deploy, "");
        let other = artifact(&format!("listen = \"{listen}\""), &deploy, args);
        let first = v4.deploy(&world).await.succeed().await;
        let mut load = put_on(&world, &first);
        more_requests(&load).await;
        other.deploy(&world).await.tell(&mut load);
        more_requests(&load).await;
        expect(&world, &world.status("shop").await);
        let mut rollback = Deploy::roll_back(&world, "shop").await;
        assert_eq!(rollback.succeed().await, first);
        rollback.tell(&mut load);
        more_requests(&load).await;
        let status = world.status("shop").await;
        let address = format!("127.0.0.1:{}", status.port.unwrap());
        assert_eq!(status.instances[0].address, Some(address));
        expect_no_failure(&load.stop().await.unwrap());
        assert_eq!(world.names("shop", "sockets"), [""; 0]);
    }
}

#[tokio::test]
async fn hooks_and_arguments_are_told_the_socket() {
    let world = World::new().await;
    let ask = "curl --silent --fail --unix-socket $VELA_SOCKET http://shop/health";
    let deploy = format!(
        "args = [\"${{socket}}\"]\nhealth = {{ exec = \"{ask}\" }}\npre_start = \"echo $VELA_SOCKET > $VELA_DATA_DIR/pre_start\"\n\
         pre_switch = \"{ask} && echo $VELA_SOCKET > $VELA_DATA_DIR/pre_switch\""
    );
    let manifest = manifest("listen = \"unix\"", &deploy);
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    let script = format!("echo $1 > $VELA_DATA_DIR/argument; exec '{program}' demo-app --unix");
    world
        .deploy(&Release::script(&manifest, &script))
        .await
        .expect(0);
    let status = world.status("shop").await;
    expect_unix(&world, &status);
    let dir = world.app_dir("shop");
    let wanted = dir.join("sockets").join(status.port.unwrap().to_string());
    for told in ["argument", "pre_start", "pre_switch"] {
        let told = std::fs::read_to_string(dir.join("data").join(told)).unwrap();
        assert_eq!(Path::new(told.trim()), wanted);
    }
    world.vela(&["remove", "shop", "--yes"]).await.expect(0);
    assert!(!dir.join("sockets").exists());
}

#[tokio::test]
async fn the_socket_of_a_deploy_that_a_crash_undid_is_removed() {
    let mut world = World::new().await;
    let health = "health = \"/health\"";
    let app = "listen = \"unix\"";
    let release = artifact(app, health, "--unix")
        .deploy(&world)
        .await
        .succeed()
        .await;
    let old = world.status("shop").await;
    let lines = format!("{health}\npre_switch = \"touch $VELA_DATA_DIR/hook; sleep 1000\"");
    let _second = artifact(app, &lines, "--unix").begin(&world).await;
    // A process that the daemon is just starting would have the daemon's port for a moment longer.
    written(&world, "hook").await;
    assert_eq!(world.names("shop", "sockets").len(), 2);
    world.kill_daemon().await;
    world.start(&[]).await;
    let status = running(&world, None).await;
    assert_eq!(status.pid, old.pid);
    expect_unix(&world, &status);
    let (status, body) = get(world.http(), HOST, "/").await;
    assert!(status == 200 && body.starts_with(&release), "{body}");
}

#[tokio::test]
async fn what_is_left_where_a_socket_is_to_be_is_in_nobodys_way() {
    let world = World::new().await;
    // A file that is no socket, made before the app can make its own.
    let deploy = "health = \"/health\"\npre_start = \"echo old > $VELA_SOCKET\"";
    let release = Release::demo_app(&manifest("listen = \"unix\"", deploy), "--unix");
    world.deploy(&release).await.expect(0);
    assert_eq!(get(world.http(), HOST, "/").await.0, 200);
    expect_unix(&world, &world.status("shop").await);
}

/// Its own file of a name, once the app has written it.
async fn written(world: &World, name: &str) -> String {
    let (path, began) = (
        world.app_dir("shop").join("data").join(name),
        Instant::now(),
    );
    loop {
        if let Ok(text) = std::fs::read_to_string(&path) {
            return text;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{name} never came"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_stranger_on_the_socket_of_an_app_gets_no_traffic() {
    let world = World::new().await;
    // The first instance leaves its socket to the stranger, who answers its health check.
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    let script = format!(
        "cd $VELA_DATA_DIR; [ -e told ] && exec '{program}' demo-app --unix; echo $VELA_SOCKET > .told; mv .told told; exec sleep 1000"
    );
    let release = Release::script(
        &manifest("listen = \"unix\"", "health = \"/health\""),
        &script,
    );
    let stranger = async {
        let told = written(&world, "told").await;
        let stranger = UnixListener::bind(told.trim()).unwrap();
        let serve = tokio::spawn(async move {
            while let Ok((mut client, _)) = stranger.accept().await {
                // Whoever probes it may go away meanwhile.
                if client.read(&mut [0; 1024]).await.is_ok() {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nstranger";
                    drop(client.write_all(answer).await);
                }
            }
        });
        (told, serve)
    };
    let (output, (told, serve)) = tokio::join!(world.deploy(&release), stranger);
    let output = output.expect(0);
    let warning = format!(
        "warning: another process listens on unix:{}: trying another port\n",
        told.trim()
    );
    assert!(output.stderr.contains(&warning), "{output:?}");
    let (status, body) = get(world.http(), HOST, "/").await;
    assert_eq!(status, 200);
    assert!(body.starts_with(&world.current("shop").unwrap()), "{body}");
    expect_unix(&world, &world.status("shop").await);
    serve.abort();
}

#[tokio::test]
async fn an_app_that_does_not_listen_on_its_socket_is_told_so() {
    let world = World::new().await;
    let health = "health = { path = \"/health\", retries = 3 }";
    let on_port = Release::demo_app(&manifest("listen = \"unix\"", health), "");
    let output = world.deploy(&on_port).await.expect(1);
    for said in [
        "cannot connect to unix:",
        "hint: the app listens on 127.0.0.1:",
        "it must listen on the one in $VELA_SOCKET",
    ] {
        assert!(output.stderr.contains(said), "{output:?}");
    }
    assert_eq!(world.names("shop", "sockets"), [""; 0]);
}

#[tokio::test]
async fn a_socket_whose_path_is_too_long_is_refused_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(Options {
        data_dir: Some(dir.path().join("d".repeat(90))),
        ..Options::default()
    })
    .await;
    let release = Release::demo_app(&manifest("listen = \"unix\"", ""), "--unix");
    let output = world.deploy(&release).await.expect(1);
    assert!(
        output.stderr.contains("would have too long a path\n")
            && output.stderr.contains("hint: it may have 106 bytes: "),
        "{output:?}"
    );
    assert_eq!(world.names("shop", "releases"), [""; 0]);
}

#[tokio::test]
async fn an_app_that_listens_elsewhere_is_told_where_and_what_helps() {
    if !has_ipv6() {
        return;
    }
    let world = World::new().await;
    let health = "health = { path = \"/health\", retries = 3 }";
    let release = Release::demo_app(&manifest("", health), "--listen ::1");
    let output = world.deploy(&release).await.expect(1);
    for said in [
        "hint: the app listens on [::1]:",
        ", and not on 127.0.0.1:",
        "set listen = \"::1\" in [app]\n",
    ] {
        assert!(output.stderr.contains(said), "{output:?}");
    }
    release.set_manifest(&manifest("listen = \"::1\"", health));
    world.deploy(&release).await.expect(0);
    assert_eq!(get(world.http(), HOST, "/").await.0, 200);

    let v4 = Release::demo_app(&manifest("listen = \"::1\"", health), "");
    let output = world.deploy(&v4).await.expect(3);
    for said in [
        "hint: the app listens on 127.0.0.1:",
        ", and not on [::1]:",
        "leave out `listen` in [app]\n",
    ] {
        assert!(output.stderr.contains(said), "{output:?}");
    }
}
