//! What happens when it does not work.

use std::time::SystemTime;

use vela_proxy::acme::{AcmeSettings, Certifier, CertifierState, Pace};

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
    // Told once it is served.
    let told = |now: &Running| now.happened("CertificateInstalled") == 1;
    running.until("a certificate", told).await;
    assert!(running.store.covers("shop.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_is_named_and_costs_the_others_nothing() {
    let world = World::start();
    world.pebble.mislead("www.shop.test", true);
    let running = world.run();
    let names = ["shop.test", "www.shop.test", "old.shop.test"];
    running.route("shop", &names).await;
    let failing = |now: &Running| now.happened("AttemptFailed") >= 2;
    running.until("failures", failing).await;
    let certified = &running.acme.status()[0];
    let CertifierState::Failing { error, .. } = &certified.state else {
        panic!("it cannot work: {certified:?}")
    };
    assert!(
        error.contains("could not verify www.shop.test: "),
        "{error}"
    );
    assert!(certified.not_after.is_some());
    assert_eq!(running.names("shop.test"), ["old.shop.test", "shop.test"]);
    assert_eq!(running.happened("CertificateInstalled"), 1, "not each time");

    world.pebble.mislead("www.shop.test", false);
    let all = |now: &Running| now.store.covers("www.shop.test");
    running.until("a certificate for all", all).await;
    assert_eq!(running.names("shop.test").len(), 3);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_says_why() {
    let world = World::start();
    let settings = AcmeSettings {
        dns_hook: Some("echo first >&2; echo no such zone >&2; exit 7".to_owned()),
        ..world.settings()
    };
    let running = world.run_with(settings, true);
    let names = ["*.shop.test".parse().unwrap()];
    running.acme.want_names(&"shop".into(), &names);
    let CertifierState::Failing { error, .. } = running.settled("shop").await.state else {
        panic!("it cannot work")
    };
    let expected = "`dns_hook` failed for _acme-challenge.shop.test: exit status: 7: no such zone";
    assert_eq!(error, expected);
}
