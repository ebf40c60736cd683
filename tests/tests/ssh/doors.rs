//! What is told apart when there is no way to the daemon.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vela_tests::{Account, Options, Sshd, SshdOptions, World};

use super::{NO_FORWARDING, apps, expect_unreachable, released, shop, sshd};

fn without_vela(config: &str) -> Sshd {
    Sshd::with(SshdOptions {
        config: config.to_owned(),
        without_vela: true,
        ..SshdOptions::default()
    })
}

fn set_mode(socket: &Path, mode: u32) {
    fs::set_permissions(socket, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_server_on_which_vela_was_never_installed() {
    let world = World::stopped(Options::default());
    let missing = ("vela is not installed on 127.0.0.1", "`vela setup`");
    for config in ["", NO_FORWARDING] {
        let sshd = without_vela(config);
        let release = shop(&sshd.address(&world.socket()), "");
        let deploy = sshd.deploy(&release).await;
        assert!(
            deploy.stderr.ends_with("\nnothing was changed\n"),
            "{deploy:?}"
        );
        expect_unreachable(deploy, missing.0, missing.1);
        expect_unreachable(apps(&sshd, &world).await, missing.0, missing.1);
    }
}

#[tokio::test]
async fn a_daemon_that_does_not_run() {
    let mut world = World::new().await;
    let (sshd, joined) = (Sshd::new(), sshd(NO_FORWARDING));
    // Killed it leaves its socket behind, stopped it does not.
    world.kill_daemon().await;
    expect_no_daemon(&world, &[&sshd, &joined]).await;
    fs::remove_file(world.socket()).unwrap();
    expect_no_daemon(&world, &[&sshd, &joined]).await;
    // Nothing that was found out before stands in the way of one that runs again.
    world.start(&[]).await;
    for sshd in [&sshd, &joined] {
        apps(sshd, &world).await.expect(0);
    }
}

async fn expect_no_daemon(world: &World, sshds: &[&Sshd]) {
    let cause = format!("no daemon listens on {}", world.socket().display());
    let hint = "`systemctl start vela`";
    for sshd in sshds {
        let server = sshd.address(&world.socket());
        let deploy = sshd.deploy(&shop(&server, "")).await;
        expect_unreachable(deploy, &cause, hint);
        let mut system = sshd.command();
        system
            .args(["apps", "-s", &server])
            .env("VELA_SSH", "system");
        expect_unreachable(sshd.finish(&mut system).await, &cause, hint);
    }
}

#[tokio::test]
async fn no_forwarding_is_told_from_no_vela() {
    let world = World::new().await;
    let sshd = without_vela(NO_FORWARDING);
    let release = shop(&sshd.address(&world.socket()), "");
    let cause = format!(
        "the SSH server of 127.0.0.1 does not forward to {}, and has no `vela` command to join it",
        world.socket().display()
    );
    let hint = "`AllowStreamLocalForwarding yes`";
    expect_unreachable(sshd.deploy(&release).await, &cause, hint);
    // One of both is enough.
    apps(&without_vela(""), &world).await.expect(0);
    apps(&super::sshd(NO_FORWARDING), &world).await.expect(0);
}

#[tokio::test]
async fn a_user_who_may_not_open_the_socket() {
    let world = World::new().await;
    // Root may open everything, so it has somebody else log in.
    let stranger = |config: &str, without_vela| {
        Sshd::with(SshdOptions {
            config: config.to_owned(),
            without_vela,
            account: Account::new(),
            ..SshdOptions::default()
        })
    };
    let denied = format!("no permission to open {}", world.socket().display());
    for (config, without_vela) in [("", false), (NO_FORWARDING, false), ("", true)] {
        let sshd = stranger(config, without_vela);
        let release = shop(&sshd.address(&world.socket()), "");
        set_mode(&world.socket(), 0o000);
        let deploy = sshd.deploy(&release).await;
        expect_unreachable(deploy, &denied, "`usermod -aG vela <user>`");
        // Once the user may, the same command works, and the history has its name.
        set_mode(&world.socket(), 0o666);
        let v1 = released(sshd.deploy(&release).await);
        assert_eq!(world.current("shop"), Some(v1));
        let history = world.client().history("shop").await.unwrap();
        assert_eq!(history[0].by.user, sshd.user());
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    sshd.reach_by(port);
    let cause = format!("cannot connect to 127.0.0.1 port {port}");
    let release = shop(&sshd.address(&world.socket()), "");
    let deploy = sshd.deploy(&release).await;
    assert!(deploy.stderr.contains("Connection refused"), "{deploy:?}");
    expect_unreachable(deploy, &cause, "`ssh 127.0.0.1`");
}
