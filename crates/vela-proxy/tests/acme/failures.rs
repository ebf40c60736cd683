//! What happens when it does not work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use vela_proxy::acme::{AcmeEvent, AcmeSettings, Certifier, CertifierState, Pace};

use crate::front::Front;
use crate::pebble::Pebble;
use crate::world::{LONG, Running, World};

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

/// Like those of a daemon: one attempt is all that a test sees.
fn patient(world: &World) -> AcmeSettings {
    AcmeSettings {
        pace: Pace::default(),
        ..world.settings()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_is_looked_at_once_in_an_attempt() {
    for (good, orders) in [(None, 1), (Some("shop.test"), 2)] {
        let world = World::start();
        let bad = ["a.shop.test", "b.shop.test", "c.shop.test", "d.shop.test"];
        for name in bad {
            world.pebble.mislead(name, true);
        }
        let running = world.run_with(patient(&world), true);
        let names: Vec<&str> = good.into_iter().chain(bad).collect();
        running.route("shop", &names).await;
        let CertifierState::Failing { error, .. } = running.settled("shop").await.state else {
            panic!("they lead elsewhere")
        };
        for name in bad {
            assert!(
                error.contains(&format!("could not verify {name}: ")),
                "{error}"
            );
        }
        assert_eq!(world.pebble.logged("Added order "), orders, "{error}");
        assert_eq!(running.store.covers("shop.test"), good.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_rate_for_the_other_names_is_obeyed_too() {
    let world = World::start();
    world.pebble.mislead("www.shop.test", true);
    let (directory, dir) = (world.pebble.directory(), world.pebble.dir());
    let front = Front::start(directory, dir, None, 0, "86400");
    front.limit(1, 1);
    let settings = AcmeSettings {
        directory: front.directory(),
        ..patient(&world)
    };
    let running = world.run_with(settings, true);
    let begun = SystemTime::now();
    running.route("shop", &["shop.test", "www.shop.test"]).await;
    let CertifierState::Failing {
        error, retry_at, ..
    } = running.settled("shop").await.state
    else {
        panic!("it leads elsewhere")
    };
    assert!(error.contains("could not verify www.shop.test"), "{error}");
    assert_eq!(front.refused(), 1);
    assert!(retry_at >= begun + Duration::from_secs(86_400));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_survives_a_limit_of_rate() {
    let world = World::start();
    let (directory, dir) = (world.pebble.directory(), world.pebble.dir());
    let front = Front::start(directory, dir, None, 1, "86400");
    let settings = AcmeSettings {
        directory: front.directory(),
        ..patient(&world)
    };
    let key = KeyPair::generate().unwrap().serialize_pem();
    let begun = serde_json::json!({
        "directory": front.directory(),
        "names": ["shop.test"],
        "key": key,
        "url": front.refusing(),
    });
    let file = world.state.path().join("orders/shop.test.json");
    std::fs::create_dir(world.state.path().join("orders")).unwrap();
    std::fs::write(&file, begun.to_string()).unwrap();
    let running = world.run_with(settings, true);
    let at = SystemTime::now();
    running.route("shop", &["shop.test"]).await;
    let CertifierState::Failing { retry_at, .. } = running.settled("shop").await.state else {
        panic!("it was refused")
    };
    assert!(retry_at >= at + Duration::from_secs(86_400));
    let left = std::fs::read(&file).unwrap();
    let left: serde_json::Value = serde_json::from_slice(&left).unwrap();
    assert_eq!(left, begun, "it goes on later");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_costs_the_other_names_nothing_and_cleans_up() {
    let world = World::start();
    // As one that sets the record, and then waits for it in vain.
    let hook = format!(
        "{}\n[ $VELA_ACME_ACTION = remove ]",
        world.pebble.dns_hook()
    );
    let settings = AcmeSettings {
        dns_hook: Some(hook),
        ..patient(&world)
    };
    let running = world.run_with(settings, true);
    let names = ["shop.test", "*.shop.test"].map(|name| name.parse().unwrap());
    running.acme.want_names(&"shop".into(), &names);
    let certified = running.settled("shop").await;
    let CertifierState::Failing { error, .. } = certified.state else {
        panic!("its hook fails")
    };
    assert!(error.starts_with("`dns_hook` failed for "), "{error}");
    assert!(certified.not_after.is_some());
    assert_eq!(running.names("shop.test"), ["shop.test"]);
    let done = std::fs::read_to_string(world.pebble.dns_log()).unwrap();
    let record = "_acme-challenge.shop.test";
    assert_eq!(done, format!("set {record}\nremove {record}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_a_clock_that_was_ahead_is_over() {
    let world = World::start();
    let retry_at = SystemTime::now() + Duration::from_secs(10 * 365 * 86_400);
    let retry_at = retry_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let failures = serde_json::json!({
        "count": 3, "error": "too early", "retry_at": retry_at.as_secs(), "names": ["shop.test"],
    });
    std::fs::create_dir(world.state.path().join("failures")).unwrap();
    let file = world.state.path().join("failures/shop.test.json");
    std::fs::write(file, failures.to_string()).unwrap();
    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_asked_for_and_failed_is_tried_again() {
    let mut world = World::start();
    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    world.pebble.down();
    let failed = running.acme.renew(&"shop".into()).await.unwrap();
    let is_failing = matches!(failed.state, CertifierState::Failing { .. });
    assert!(is_failing, "{failed:?}");
    world.pebble.up();
    let renewed = |now: &Running| {
        let state = &now.acme.status()[0].state;
        now.happened("CertificateInstalled") == 2 && matches!(state, CertifierState::Valid { .. })
    };
    running.until("a renewal", renewed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_panics_says_so_and_goes_on_when_asked() {
    let world = World::start();
    let ports = world.pebble.ports;
    let is_first = AtomicBool::new(true);
    let observer = move |event: &AcmeEvent<'_>| {
        let is_installed = matches!(event, AcmeEvent::CertificateInstalled { .. });
        if is_installed && is_first.swap(false, Ordering::Relaxed) {
            panic!("on purpose");
        }
    };
    let running = Running::observed(world.settings(), Some(ports.http), ports.https, observer);
    running.route("shop", &["shop.test"]).await;
    let CertifierState::Failing { error, .. } = running.settled("shop").await.state else {
        panic!("it goes on in silence")
    };
    assert!(error.contains("panicked"), "{error}");
    let id = "shop".into();
    let renewing = running.acme.renew(&id);
    let renewed = tokio::time::timeout(LONG, renewing).await.unwrap().unwrap();
    let is_valid = matches!(renewed.state, CertifierState::Valid { .. });
    assert!(is_valid, "{renewed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stars_without_a_hook_and_a_name_that_leads_elsewhere_cost_the_others_nothing() {
    let world = World::start();
    world.pebble.mislead("www.shop.test", true);
    let settings = AcmeSettings {
        dns_hook: None,
        ..patient(&world)
    };
    let running = world.run_with(settings, true);
    let names = [
        "shop.test",
        "*.shop.test",
        "www.shop.test",
        "*.api.shop.test",
    ];
    let names = names.map(|name| name.parse().unwrap());
    running.acme.want_names(&"shop".into(), &names);
    let CertifierState::Failing { error, .. } = running.settled("shop").await.state else {
        panic!("it cannot work")
    };
    for name in ["*.shop.test", "*.api.shop.test", "www.shop.test"] {
        assert!(error.contains(&format!(" {name}")), "{error}");
    }
    assert_eq!(running.names("shop.test"), ["shop.test"]);
    assert_eq!(world.pebble.logged("Added order "), 2);
}
