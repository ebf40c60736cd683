//! What an operator sees of certificates, and can do.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use vela_tests::World;

use crate::pebble::Pebble;
use crate::{HOST, certificates, given, names, obtained, obtaining, release, until, warnings};

/// A pair that is valid since yesterday, and for so many days.
fn write_pair(dir: &Path, host: &str, days: i64) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(86_400);
    params.not_before = (now - 100 * day).into();
    params.not_after = (now + day * u32::try_from(days).unwrap() + day / 2).into();
    let certificate = params.self_signed(&key).unwrap().pem();
    std::fs::write(dir.join("cert.pem"), certificate).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn what_is_obtained_is_listed_shown_and_renewed() {
    let pebble = Pebble::start();
    let mut world = World::with(obtaining(&pebble, "")).await;
    world
        .deploy(&release("shop", HOST, &["www.shop.localhost"]))
        .await
        .expect(0);
    let one = obtained(&world).await;
    assert_eq!(names(&one), [HOST, "www.shop.localhost"]);
    assert_eq!(one["state"], "valid");
    let details = &one["certificate"];
    assert!(
        details["issuer"].as_str().unwrap().contains("Pebble"),
        "{one}"
    );
    assert_eq!(details["key"], "ECDSA P-256");
    assert!(details["days_left"].as_i64().unwrap() > 1000, "{one}");
    let text = world
        .vela(&["certs", "show", "shop"])
        .await
        .expect(0)
        .stdout;
    let serial = format!("serial    {}", details["serial"].as_str().unwrap());
    assert!(text.contains(&serial), "{text}");
    let status = world.vela(&["status", "shop"]).await.expect(0).stdout;
    assert!(status.contains("cert      18"), "{status}");
    let metrics = tokio::process::Command::new("curl")
        .args(["-sS", "http://vela/v1/metrics", "--unix-socket"])
        .arg(world.socket())
        .output();
    let metrics = vela_tests::Output::from(metrics.await.unwrap()).stdout;
    for series in [
        "vela_proxy_certificate_expiry_seconds{name=\"shop.localhost\",origin=\"acme\"} ",
        "vela_proxy_certificate_files_refused 0",
        "vela_proxy_certificate_failures{app=\"shop\"} 0",
        "vela_proxy_tls_handshakes_total{result=\"ok\",version=\"1.3\",resumed=\"false\"} ",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    let apps = world.vela(&["apps"]).await.expect(0).stdout;
    assert!(apps.lines().next().unwrap().ends_with("CERT"), "{apps}");

    let renewed = world.vela(&["certs", "renew", "shop"]).await.expect(0);
    assert!(
        renewed.stdout.contains("has a new certificate for"),
        "{renewed:?}"
    );
    let other = obtained(&world).await;
    assert_ne!(other["certificate"]["serial"], details["serial"]);
    // Nobody could renew it now, and it is served as before; both over a restart too.
    let mut pebble = pebble;
    pebble.down();
    let failed = world.vela(&["certs", "renew", "shop"]).await.expect(1);
    assert!(failed.stderr.contains("could not be renewed"), "{failed:?}");
    assert!(
        failed.stderr.contains("the present one is valid until"),
        "{failed:?}"
    );
    assert!(
        failed
            .stderr
            .contains("hint: check that this machine reaches"),
        "{failed:?}"
    );
    for _ in 0..2 {
        let one = obtained(&world).await;
        assert_eq!(one["state"], "failing", "{one}");
        assert_eq!(one["certificate"]["serial"], other["certificate"]["serial"]);
        let warned = warnings(&world, "shop").await;
        assert!(
            warned.contains("no new certificate: cannot talk"),
            "{warned}"
        );
        assert!(
            warned.contains("check that this machine reaches"),
            "{warned}"
        );
        world.kill_daemon().await;
        world.start(&[]).await;
        until("the state", &world, async || {
            obtained(&world).await["state"] != "obtaining"
        })
        .await;
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_called_so() {
    let pebble = Pebble::start(); // for its ports
    let world = World::with(given(&pebble, "")).await;
    let none = certificates(&world, "self-signed").await;
    assert_eq!(none[0]["warnings"], serde_json::json!([]), "nobody gets it");
    world.deploy(&release("shop", HOST, &[])).await.expect(0);
    let text = "no certificate for shop.localhost: clients get a self-signed one, which nothing trusts; set `acme_email`";
    let warned = warnings(&world, "shop").await;
    assert!(warned.contains(text), "{warned}");
    let status = world.vela(&["status", "shop"]).await.expect(0).stdout;
    assert!(status.contains("cert      none"), "{status}");
    assert!(status.contains(&format!("warning   {text}")), "{status}");
    let own = certificates(&world, "self-signed").await;
    assert_eq!(own[0]["apps"], serde_json::json!(["shop"]));
    assert!(own[0]["warnings"].to_string().contains(text), "{own:?}");
    let refused = world.vela(&["certs", "renew", "shop"]).await.expect(1);
    assert!(
        refused.stderr.contains("set `acme_email` in [tls]"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_pair_of_files_shows_its_age_and_why_it_is_refused() {
    let pebble = Pebble::start(); // for its ports
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), HOST, 5);
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let config = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n");
    let world = World::with(given(&pebble, &config)).await;
    world.deploy(&release("shop", HOST, &[])).await.expect(0);
    let one = &certificates(&world, "static").await[0];
    assert_eq!(one["id"], cert.to_str().unwrap());
    assert_eq!(one["certificate"]["days_left"], 5);
    assert_eq!(one["apps"], serde_json::json!(["shop"]));
    assert_eq!(
        warnings(&world, "shop").await,
        "[\"the certificate expires in 5 days\"]"
    );
    let list = world.vela(&["certs", "list"]).await.expect(0);
    assert!(list.stderr.contains("expires in 5 days"), "{list:?}");

    // Half of a renewal.
    let other = tempfile::tempdir().unwrap();
    write_pair(other.path(), HOST, 90);
    let new = std::fs::read(other.path().join("key.pem")).unwrap();
    std::fs::copy(other.path().join("cert.pem"), &cert).unwrap();
    until("a refusal", &world, async || {
        certificates(&world, "static").await[0]["state"] == "refused"
    })
    .await;
    let one = &certificates(&world, "static").await[0];
    assert_eq!(one["certificate"]["days_left"], 5, "the old one serves");
    assert!(
        one["warnings"].to_string().contains("does not belong"),
        "{one}"
    );
    std::fs::write(&key, new).unwrap();
    until("the new one", &world, async || {
        certificates(&world, "static").await[0]["state"] == "valid"
    })
    .await;
    assert_eq!(warnings(&world, "shop").await, "[]");
}

#[tokio::test]
async fn a_daemon_without_https_says_so() {
    let world = World::new().await;
    let none = world.vela(&["certs", "list"]).await.expect(0);
    assert!(none.stderr.contains("does not serve HTTPS"), "{none:?}");
    let missing = world.vela(&["certs", "show", "nobody"]).await.expect(1);
    assert!(
        missing.stderr.contains("there is no app `nobody`"),
        "{missing:?}"
    );
}
