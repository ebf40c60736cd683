//! What is ordered, how it is verified, and when it is renewed.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair};
use vela_proxy::Router;
use vela_proxy::acme::{AcmeSettings, Certifier, CertifierState, ExternalAccount};
use vela_proxy::tls::{Certificate, Origin};

use crate::pebble::Pebble;
use crate::world::{Running, World, kept, serial, spec};

#[tokio::test(flavor = "multi_thread")]
async fn all_hosts_of_a_route_get_one_certificate_over_http() {
    let world = World::start();
    let running = world.run();
    running.route("shop", &["shop.test", "www.shop.test"]).await;
    let certified = running.obtained("shop").await;
    assert_eq!(running.names("shop.test"), ["shop.test", "www.shop.test"]);
    assert_eq!(certified.names.len(), 2);
    assert_eq!(running.tls.stats().challenges, 0);
    assert_eq!(
        *running.events.lock().unwrap(),
        [
            "AccountCreated",
            "OrderPlaced",
            "ChallengeAnswered",
            "ChallengeAnswered",
            "NamesVerified",
            "CertificateRequested",
            "CertificateDownloaded",
            "CertificateInstalled"
        ]
    );

    // It is served, and clients are sent there now.
    let to = format!("127.0.0.1:{}", world.pebble.ports.https);
    let roots = world.pebble.roots(world.state.path());
    let output = Command::new("openssl")
        .args(["s_client", "-servername", "www.shop.test", "-connect", &to])
        .args(["-verify_hostname", "www.shop.test", "-CAfile"])
        .arg(roots)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let to = format!(":80:127.0.0.1:{}", world.pebble.ports.http);
    let redirected = Command::new("curl")
        .args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--connect-to",
            &to,
        ])
        .arg("http://shop.test/")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&redirected.stdout), "308");

    // Nothing is left of the order, and nobody else may read the rest.
    let files = |kind: &str| {
        let dir = std::fs::read_dir(world.state.path().join(kind)).unwrap();
        dir.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    assert!(files("orders").is_empty() && files("failures").is_empty());
    let kept = kept(world.state.path(), "shop.test");
    for file in [files("accounts"), vec![kept]].concat() {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_port_80_tls_itself_verifies() {
    let world = World::start();
    let running = world.run_with(world.settings(), false);
    running.route("shop", &["shop.test"]).await;
    // The first attempt goes to port 80.
    let first = running.settled("shop").await;
    assert!(
        matches!(first.state, CertifierState::Failing { failures: 1, .. }),
        "{first:?}"
    );
    running
        .until("a certificate", |now| now.store.covers("shop.test"))
        .await;
    assert!(running.tls.stats().challenges >= 3, "it looks three times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_is_verified_by_dns() {
    let world = World::start();
    let running = world.run();
    // For the name without a star, which is verified by HTTP.
    running
        .proxy
        .apply(spec("shop", &["shop.test"]))
        .await
        .unwrap();
    let names = ["*.shop.test", "shop.test"].map(|name| name.parse().unwrap());
    running.acme.want_names(&"shop".into(), &names);
    running.obtained("shop").await;
    assert_eq!(running.names("*.shop.test"), ["*.shop.test", "shop.test"]);
    assert!(running.store.covers("anything.shop.test"));
    let log = std::fs::read_to_string(world.pebble.dns_log()).unwrap();
    assert_eq!(
        log,
        "set _acme-challenge.shop.test\nremove _acme-challenge.shop.test\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_without_a_hook_says_what_is_missing() {
    let world = World::start();
    let settings = AcmeSettings {
        dns_hook: None,
        ..world.settings()
    };
    let running = world.run_with(settings, true);
    running
        .acme
        .want_names(&"shop".into(), &["*.shop.test".parse().unwrap()]);
    let CertifierState::Failing { hint, .. } = running.settled("shop").await.state else {
        panic!("{:?}", running.acme.status())
    };
    assert!(hint.unwrap().contains("dns_hook"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_is_added_is_in_the_next_certificate() {
    let world = World::start();
    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    let first = serial(world.state.path(), "shop.test");
    // Routes are applied again and again; that is no reason to order.
    running.route("shop", &["shop.test"]).await;
    running.route("shop", &["shop.test", "www.shop.test"]).await;
    // Meanwhile the old one serves.
    assert!(running.store.covers("shop.test"));
    running.obtained("shop").await;
    assert_eq!(running.names("shop.test"), ["shop.test", "www.shop.test"]);
    assert_ne!(serial(world.state.path(), "shop.test"), first);
    // An alias that is taken away waits for the renewal.
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    assert_eq!(world.orders(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_routes_at_once_share_the_account() {
    let world = World::start();
    let running = world.run();
    tokio::join!(
        running.route("one", &["one.test"]),
        running.route("two", &["two.test", "www.two.test"])
    );
    let (one, two) = tokio::join!(running.obtained("one"), running.obtained("two"));
    assert!(one.not_after.is_some() && two.not_after.is_some());
    assert_eq!(running.happened("AccountCreated"), 1);
    let told = |now: &Running| now.happened("CertificateInstalled") == 2;
    running.until("two certificates", told).await;
    running.acme.forget(&"one".into());
    assert_eq!(running.acme.status().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_one_host_share_its_certificate() {
    let world = World::start();
    let running = world.run();
    let want = |id: &str, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
        running.acme.want_names(&id.into(), &names);
    };
    want("shop", &["shop.test", "www.shop.test"]);
    let first = running.obtained("shop").await;
    want("api", &["shop.test"]);
    running.obtained("api").await;
    assert_eq!(world.orders(), 1, "there is one already");
    want("api", &["shop.test", "api.test"]);
    let shared = running.obtained("api").await;
    assert_eq!(shared.names.len(), 2, "its own");
    let all = ["api.test", "shop.test", "www.shop.test"];
    assert_eq!(running.names("shop.test"), all);
    let other = running.settled("shop").await;
    assert_eq!(other.names, first.names);
    assert_eq!(other.not_after, shared.not_after);
    // What one of them gives up is given up when it is renewed.
    running.acme.forget(&"api".into());
    running.obtained("shop").await;
    assert_eq!(world.orders(), 2);
    running.acme.renew(&"shop".into()).await.unwrap();
    assert_eq!(running.names("shop.test"), ["shop.test", "www.shop.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_orders_nothing() {
    let world = World::start();
    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    running.stop().await;
    let running = world.run();
    assert!(running.store.covers("shop.test"), "before anybody wants it");
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    assert_eq!(world.orders(), 1);
    let before = serial(world.state.path(), "shop.test");
    let renewed = running.acme.renew(&"shop".into()).await.unwrap();
    assert!(
        matches!(renewed.state, CertifierState::Valid { .. }),
        "{renewed:?}"
    );
    // At once, not when its time has come.
    assert_eq!(running.happened("CertificateInstalled"), 1);
    assert_ne!(serial(world.state.path(), "shop.test"), before);
    assert_eq!(running.happened("AccountCreated"), 0);
    assert!(running.acme.renew(&"other".into()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_renewed_in_time_and_nobody_sees_an_expired_one() {
    let world = World::with(Pebble::issuing_for(18));
    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    let first = serial(world.state.path(), "shop.test");
    let renewed = |now: &Running| {
        assert!(now.store.covers("shop.test"), "it has expired");
        now.happened("CertificateInstalled") >= 2
    };
    running.until("a renewal", renewed).await;
    assert_ne!(serial(world.state.path(), "shop.test"), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_as_files_is_not_ordered() {
    let world = World::start();
    let running = world.run();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["shop.test".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    let (pem, now) = (pem.as_bytes(), SystemTime::now());
    let given = Certificate::from_pem(pem, pem, now).unwrap();
    running.store.put(Origin::Static, "given", given);
    running.route("shop", &["shop.test"]).await;
    assert_eq!(
        running.settled("shop").await.state,
        CertifierState::NotNeeded
    );
    // Only what it leaves out.
    running.route("shop", &["shop.test", "www.shop.test"]).await;
    running.obtained("shop").await;
    assert_eq!(running.names("www.shop.test"), ["www.shop.test"]);
    assert_eq!(world.orders(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_may_know_its_customers_otherwise() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let world = World::with(Pebble::for_customers(KEY));
    let stranger = world.run();
    stranger.route("shop", &["shop.test"]).await;
    let CertifierState::Failing { error, .. } = stranger.settled("shop").await.state else {
        panic!("a stranger is served")
    };
    assert!(error.contains("externalAccountRequired"), "{error}");
    stranger.stop().await;
    std::fs::remove_dir_all(world.state.path().join("failures")).unwrap();

    let settings = AcmeSettings {
        external_account: Some(ExternalAccount {
            kid: "kid-1".to_owned(),
            key: KEY.to_owned().into(),
        }),
        ..world.settings()
    };
    assert!(!format!("{settings:?}").contains(KEY));
    let customer = world.run_with(settings, true);
    customer.route("shop", &["shop.test"]).await;
    customer.obtained("shop").await;
}
