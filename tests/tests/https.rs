//! HTTPS from `server.toml` to a client: with a certificate that a deploy brings, and with one that is given.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

#[path = "../../crates/vela-proxy/tests/acme/pebble.rs"]
#[expect(dead_code, reason = "the proxy's own tests use the rest")]
mod pebble;

use std::path::Path;
use std::time::Duration;

use pebble::Pebble;
use rcgen::{CertificateParams, KeyPair};
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use vela_tests::{MANIFEST, Options, Release, World};

const LONG: Duration = Duration::from_secs(60);
const HOST: &str = "shop.localhost";

fn ports(pebble: &Pebble) -> Option<(u16, u16)> {
    Some((pebble.ports.http, pebble.ports.https))
}

/// What curl prints, and what it complains about.
async fn curl(pebble: &Pebble, options: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--connect-to"])
        .arg(format!(":443:127.0.0.1:{}", pebble.ports.https))
        .arg("--connect-to")
        .arg(format!(":80:127.0.0.1:{}", pebble.ports.http))
        .args(options)
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

async fn until(what: &str, world: &World, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !holds().await {
        assert!(Instant::now() < until, "{what}: {}", world.daemon_log());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_deploy_brings_a_certificate_that_outlives_the_daemon() {
    let pebble = Pebble::start();
    let config = format!(
        "[tls]\nacme_email = \"ops@example.com\"\ndirectory = {:?}\ndirectory_ca = {:?}\nhsts = \"1h\"\n",
        pebble.directory(),
        pebble.authority(),
    );
    let options = Options {
        config,
        ports: ports(&pebble),
        ..Options::default()
    };
    let mut world = World::with(options).await;
    let url = format!("https://{HOST}/");
    let before = curl(&pebble, &[&url]).await;
    assert!(before.contains("self-signed certificate"), "{before}");

    let manifest = MANIFEST.replace("[deploy]", "aliases = [\"www.shop.localhost\"]\n[deploy]");
    let release = Release::demo_app(&manifest, "");
    world.deploy(&release).await.expect(0);
    // Pebble's root is made at its start: that there is a certificate for the host is what counts here.
    let location = format!(
        "location: https://www.{HOST}:{}/x?y\r\n",
        pebble.ports.https
    );
    let plain = format!("http://www.{HOST}/x?y");
    until("a redirect", &world, async || {
        curl(&pebble, &["-i", &plain]).await.contains(&location)
    })
    .await;
    let roots = pebble.roots(world.dir());
    let roots = roots.to_str().unwrap();
    let answer = curl(&pebble, &["-i", "--cacert", roots, &url]).await;
    assert!(answer.starts_with("HTTP/2 200"), "{answer}");
    assert!(
        answer.contains("strict-transport-security: max-age=3600"),
        "{answer}"
    );

    world.kill_daemon().await;
    world.start(&[]).await;
    let answer = curl(&pebble, &["-i", "--cacert", roots, &url]).await;
    assert!(answer.starts_with("HTTP/2 200"), "{answer}");
    assert_eq!(pebble.logged("Added order "), 1);
}

fn write_pair(dir: &Path, host: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([host.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    std::fs::write(dir.join("cert.pem"), certificate).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

/// The app of the demo, under a daemon with this configuration.
async fn deployed(pebble: &Pebble, config: String) -> World {
    let options = Options {
        config,
        ports: ports(pebble),
        ..Options::default()
    };
    let world = World::with(options).await;
    let deployed = world.deploy(&Release::demo_app(MANIFEST, "")).await;
    deployed.expect(0);
    world
}

#[tokio::test]
async fn a_certificate_that_is_given_is_served_and_replaced() {
    let pebble = Pebble::start(); // for its ports
    let given = tempfile::tempdir().unwrap();
    write_pair(given.path(), HOST);
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| given.path().join(name));
    let tls = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\nredirect = false\n");
    let world = deployed(&pebble, tls).await;
    let get = async || {
        let url = format!("https://{HOST}/");
        curl(&pebble, &["-i", "--cacert", cert.to_str().unwrap(), &url]).await
    };
    let answer = get().await;
    assert!(answer.starts_with("HTTP/2 200"), "{answer}");
    let plain = curl(&pebble, &["-i", &format!("http://{HOST}/")]).await;
    assert!(plain.starts_with("HTTP/1.1 200 OK"), "{plain}");
    // curl trusts the new one alone.
    write_pair(given.path(), HOST);
    until("the new one", &world, async || {
        get().await.starts_with("HTTP/2 200")
    })
    .await;
}

#[tokio::test]
async fn an_authority_of_clients_that_is_not_there_is_no_reason_to_let_all_in() {
    let pebble = Pebble::start();
    let options = Options {
        config: "[tls]\nclient_ca = \"/nonexistent/ca.pem\"\n".to_owned(),
        ports: ports(&pebble),
        ..Options::default()
    };
    let mut world = World::stopped(options);
    world.spawn(&[]);
    assert_eq!(world.daemon_ended().await, Some(1));
    let log = world.daemon_log();
    assert!(log.contains("cannot serve HTTPS"), "{log}");
    assert!(log.contains("/nonexistent/ca.pem"), "{log}");
    assert!(
        log.contains("hint: `client_ca` in [tls] of server.toml"),
        "{log}"
    );
}

#[tokio::test]
async fn who_must_have_a_certificate_cannot_come_without_tls() {
    let pebble = Pebble::start(); // for its ports
    let given = tempfile::tempdir().unwrap();
    write_pair(given.path(), "clients");
    let authority = given.path().join("cert.pem");
    let tls = format!("[tls]\nclient_ca = {authority:?}\nredirect = false\n");
    let _world = deployed(&pebble, tls).await;
    let plain = curl(&pebble, &["-i", &format!("http://{HOST}/")]).await;
    assert!(plain.starts_with("HTTP/1.1 403 Forbidden"), "{plain}");
    let secured = curl(&pebble, &["-ik", &format!("https://{HOST}/")]).await;
    // The handshake fails: curl tells of that in several ways.
    assert!(secured.starts_with("curl: "), "{secured}");
}
