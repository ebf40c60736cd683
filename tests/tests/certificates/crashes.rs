//! A daemon that is killed on the way to a certificate. Each step in between is in the proxy's own tests; here the real
//! daemon is killed where the hook for TXT records lets it be held.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vela_protocol::Step;
use vela_tests::World;

use crate::pebble::Pebble;
use crate::{Gate, HOST, begin, https, names, obtained, obtaining, orders, release, until};

const STAR: &str = "*.shop.localhost";

/// Killed while the hook does `action`, and started again.
async fn killed_at(action: &str) {
    let pebble = Pebble::start();
    let gate = Gate::new();
    let hook = gate.hook(&pebble, action);
    let mut world = World::stopped(obtaining(&pebble, &hook));
    world.start(&[("VELA_LOG", "debug")]).await;
    let mut deploy = begin(&world, &release("shop", STAR, &[HOST])).await;
    deploy.reach(Step::Certify).await;
    until("the hook", &world, async || gate.reached() > 0).await;
    // The other name may come first. Were the authority still looking, it would find nobody and end the order.
    let answered = world.daemon_log().matches("ChallengeAnswered").count();
    until("what it looks at", &world, async || {
        pebble.logged(" set VALID by completed challenge") == answered
    })
    .await;
    world.kill_daemon().await;
    gate.open();
    world.start(&[]).await;
    until("the certificate", &world, async || {
        obtained(&world).await["state"] == "valid"
    })
    .await;
    assert_eq!(names(&obtained(&world).await), [STAR, HOST]);
    assert!(
        https(&world, &pebble, "any.shop.localhost")
            .await
            .contains(" 200")
    );
    assert_eq!(orders(&pebble), 1, "the same order");
    deploy.succeed().await;
    let tls = world.data_dir().join("tls");
    let entries = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    let [authority] = &entries(&tls.join("certificates"))[..] else {
        panic!("there is one authority")
    };
    for dir in [&tls.join("accounts"), authority] {
        let mode = dir.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir:?}");
        for file in entries(dir) {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file:?}");
        }
    }
    let left = entries(&tls.join("orders"));
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn killed_between_order_and_challenge() {
    killed_at("set").await;
}

#[tokio::test]
async fn killed_between_challenge_and_download() {
    killed_at("remove").await;
}

#[tokio::test]
async fn killed_wherever_it_is_it_gets_there() {
    let pebble = Pebble::start();
    let mut world = World::stopped(obtaining(&pebble, ""));
    let log = [("VELA_LOG", "debug")];
    world.start(&log).await;
    let mut deploy = begin(&world, &release("shop", HOST, &[])).await;
    for event in [
        "OrderPlaced",
        "ChallengeAnswered",
        "NamesVerified",
        "CertificateRequested",
        "CertificateDownloaded",
        "CertificateInstalled",
    ] {
        // Killed between the certificate's file and its event, nothing is left to be told.
        let is_last = event == "CertificateInstalled";
        until(event, &world, async || {
            ask_again_for_a_lost_order(&world).await;
            world.daemon_log().contains(event) || is_last && is_kept(&world)
        })
        .await;
        world.kill_daemon().await;
        world.start(&log).await;
    }
    until("the certificate", &world, async || {
        ask_again_for_a_lost_order(&world).await;
        obtained(&world).await["state"] == "valid"
    })
    .await;
    deploy.succeed().await;
    // An order is lost where the authority looked while nobody answered, and no other is placed for it.
    assert!(orders(&pebble) <= 1 + 6, "{}", orders(&pebble));
    assert!(https(&world, &pebble, HOST).await.contains(" 200"));
}

/// The authority may look while nobody answers; by itself the next attempt comes minutes later.
async fn ask_again_for_a_lost_order(world: &World) {
    if obtained(world).await["state"] == "failing" {
        world.vela(&["certs", "renew", "shop"]).await;
    }
}

/// Whether the certificate of the app is on disk.
fn is_kept(world: &World) -> bool {
    let authorities = world.data_dir().join("tls/certificates");
    let mut dirs = std::fs::read_dir(authorities).unwrap();
    let file = format!("{HOST}.pem");
    dirs.any(|dir| dir.unwrap().path().join(&file).exists())
}
