//! Connections that are lost while a deploy runs: it belongs to the daemon, and the command finds it again.

use vela_protocol::Outcome;
use vela_tests::{Output, get};

use super::paused::{Paused, Waiting};
use super::{HOST, NO_FORWARDING, released};

/// Waits for the end of a command that has lost its deploy on the way.
async fn end(deploy: Waiting) -> Output {
    let output = deploy.end().await;
    assert!(output.stderr.contains(" to attach again\n"), "{output:?}");
    output
}

#[tokio::test]
async fn a_deploy_is_attached_to_again() {
    for config in ["", NO_FORWARDING] {
        let paused = Paused::new(config, "").await;
        let deploy = paused.begin().await;
        let logins = paused.relay.connections();
        paused.relay.cut();
        paused.relay.connected(logins + 1).await;
        paused.go();
        let v2 = released(end(deploy).await);
        assert!(paused.v1 < v2);
        assert_eq!(paused.world.current("shop"), Some(v2.clone()));
        assert!(get(paused.world.http(), HOST, "/").await.1.starts_with(&v2));
        assert_eq!(paused.relay.connections(), logins + 1);
    }
}

#[tokio::test]
async fn a_deploy_that_succeeded_meanwhile_is_found_done() {
    for config in ["", NO_FORWARDING] {
        let paused = Paused::new(config, "").await;
        let deploy = paused.begin().await;
        paused.relay.go_down();
        paused.go();
        assert_eq!(paused.ended().await, Outcome::Succeeded);
        paused.relay.come_up();
        let v2 = released(end(deploy).await);
        assert_eq!(paused.world.current("shop"), Some(v2));
    }
}

#[tokio::test]
async fn a_deploy_that_failed_meanwhile_is_found_failed() {
    let paused = Paused::new("", "; echo no table; exit 4").await;
    let deploy = paused.begin().await;
    paused.relay.go_down();
    paused.go();
    assert_eq!(paused.ended().await, Outcome::Failed);
    paused.relay.come_up();
    let output = end(deploy).await.expect(3);
    assert_eq!(output.stdout, "");
    assert!(
        output.stderr.contains("pre_start | no table\n"),
        "{output:?}"
    );
    let last = format!("\n`shop` still serves {}\n", paused.v1);
    assert!(output.stderr.ends_with(&last), "{output:?}");
    assert_eq!(paused.world.current("shop").as_ref(), Some(&paused.v1));
}

#[tokio::test]
async fn a_daemon_that_was_killed_says_what_became_of_the_deploy() {
    for config in ["", NO_FORWARDING] {
        let mut paused = Paused::new(config, "").await;
        let mut deploy = paused.begin().await;
        paused.world.kill_daemon().await;
        deploy.until("to attach again").await;
        paused.world.start(&[]).await;
        let output = end(deploy).await.expect(3);
        let last = format!("\n`shop` still serves {}\n", paused.v1);
        assert!(output.stderr.ends_with(&last), "{output:?}");
        // The SSH connection was never lost.
        assert_eq!(paused.relay.connections(), 2);
        assert!(
            get(paused.world.http(), HOST, "/")
                .await
                .1
                .starts_with(&paused.v1)
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_come_back_keeps_its_deploy() {
    let paused = Paused::new("", "").await;
    let deploy = paused.begin().await;
    paused.relay.go_down();
    let output = end(deploy).await.expect(4);
    assert!(
        output
            .stderr
            .contains("hint: `vela history shop` shows how it ended\n"),
        "{output:?}"
    );
    let last = "\nthe deploy of `shop` belongs to the server and may go on there\n";
    assert!(output.stderr.ends_with(last), "{output:?}");
    // And so it does.
    paused.go();
    assert_eq!(paused.ended().await, Outcome::Succeeded);
    assert!(paused.world.current("shop").unwrap() > paused.v1);
}

#[tokio::test]
async fn a_network_that_falls_silent_is_noticed() {
    let paused = Paused::new("", "").await;
    let config = paused.sshd.path("config");
    let lines = std::fs::read_to_string(&config).unwrap() + " ServerAliveInterval 1\n";
    std::fs::write(&config, lines).unwrap();
    let deploy = paused.begin().await;
    let logins = paused.relay.connections();
    // Nobody is told that this connection goes nowhere any more; others are fine.
    paused.relay.stall_after(0);
    paused.relay.stalled().await;
    paused.relay.stall_after(usize::MAX);
    paused.relay.connected(logins + 1).await;
    paused.go();
    let v2 = released(end(deploy).await);
    assert_eq!(paused.world.current("shop"), Some(v2));
}
