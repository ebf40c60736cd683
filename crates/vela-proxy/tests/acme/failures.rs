//! What happens when it does not work.

use std::time::SystemTime;

use vela_proxy::acme::{AcmeSettings, CertifierState, Pace};

use crate::pebble::Pebble;
use crate::world::{Running, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_down_is_tried_again() {
    let mut world = World::start();
    world.pebble.down();
    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    let CertifierState::Failing { error, hint, .. } = running.settled("shop").await.state else {
        panic!("{:?}", running.happened("AttemptFailed"))
    };
    assert!(
        error.contains("cannot talk to the certificate authority"),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
    assert!(hint.is_some());
    world.pebble.up();
    running
        .until("a certificate", |now| now.store.covers("shop.test"))
        .await;
    assert_eq!(running.happened("CertificateInstalled"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_is_named_and_tried_again() {
    let world = World::start();
    world.pebble.mislead("www.shop.test", true);
    let running = world.run();
    running.route("shop", &["shop.test", "www.shop.test"]).await;
    let CertifierState::Failing { error, .. } = running.settled("shop").await.state else {
        panic!("it cannot work")
    };
    assert!(
        error.contains("could not verify www.shop.test: "),
        "{error}"
    );
    world.pebble.mislead("www.shop.test", false);
    running
        .until("a certificate", |now| now.store.covers("www.shop.test"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_recovers_and_the_old_certificate_serves() {
    let mut world = World::with(Pebble::issuing_for(20));
    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    let first = running.obtained("shop").await;
    world.pebble.down();
    let failing = |now: &Running| now.happened("AttemptFailed") >= 2;
    running.until("failures", failing).await;
    assert!(running.store.covers("shop.test"), "the old one");
    let certified = running.settled("shop").await;
    assert!(matches!(certified.state, CertifierState::Failing { .. }));
    assert_eq!(certified.not_after, first.not_after);
    // It has forgotten the account too.
    world.pebble.up();
    running
        .until("a renewal", |now| now.happened("CertificateInstalled") >= 2)
        .await;
    assert!(running.happened("AccountCreated") >= 2);
    assert!(!world.state.path().join("failures/shop.test.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlasts_a_restart() {
    let mut world = World::start();
    world.pebble.down();
    let settings = AcmeSettings {
        pace: Pace::default(),
        ..world.settings()
    };
    let running = world.run_with(settings.clone(), true);
    running.route("shop", &["shop.test"]).await;
    let CertifierState::Failing { retry_at, .. } = running.settled("shop").await.state else {
        panic!("nobody is there")
    };
    assert!(retry_at > SystemTime::now());
    running.stop().await;
    world.pebble.up();
    let running = world.run_with(settings, true);
    running.route("shop", &["shop.test"]).await;
    let CertifierState::Failing {
        failures, error, ..
    } = running.settled("shop").await.state
    else {
        panic!("too soon")
    };
    assert_eq!((failures, error.contains("authority")), (1, true));
    assert_eq!(running.happened("OrderPlaced"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_nobody_knows_is_not_trusted() {
    let world = World::start();
    let settings = AcmeSettings {
        directory_ca: None,
        ..world.settings()
    };
    let running = world.run_with(settings, true);
    running.route("shop", &["shop.test"]).await;
    let CertifierState::Failing { error, .. } = running.settled("shop").await.state else {
        panic!("trusted")
    };
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(world.pebble.logged("GET /dir"), 0);
}
