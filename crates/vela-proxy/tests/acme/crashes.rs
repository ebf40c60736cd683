//! A process that is killed at each step, and one after it that goes on.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use vela_proxy::acme::{AcmeEvent, AcmeSettings, Certifier, Pace};

use crate::world::{Running, World, serial};

const STEP: &str = "VELA_TEST_KILL_AT";

/// Not a test by itself: what the tests below kill.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(step) = std::env::var(STEP) else {
        return;
    };
    let of = |name: &str| std::env::var(name).unwrap();
    let settings = AcmeSettings {
        directory: of("DIRECTORY"),
        directory_ca: Some(of("AUTHORITY").into()),
        pace: Pace {
            unreachable: Duration::from_millis(100),
            ..Pace::default()
        },
        ..AcmeSettings::new(of("STATE"))
    };
    let [http, https] = ["HTTP", "HTTPS"].map(|name| of(name).parse().unwrap());
    let running = Running::observed(settings, Some(http), https, move |event| {
        if format!("{event:?}").starts_with(&step) {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
    });
    running.route("shop", &["shop.test", "www.shop.test"]).await;
    running.obtained("shop").await;
    println!("not killed");
}

/// Whether it was killed there.
fn run(world: &World, step: &str) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::child", "--nocapture"])
        .env(STEP, step)
        .env("DIRECTORY", world.pebble.directory())
        .env("AUTHORITY", world.pebble.authority())
        .env("STATE", world.state.path())
        .env("HTTP", world.pebble.ports.http.to_string())
        .env("HTTPS", world.pebble.ports.https.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.signal() == Some(9), "{status}");
    status.signal() == Some(9)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_one_goes_on_with_the_same_order() {
    for step in [
        "AccountCreated",
        "OrderPlaced",
        "ChallengeAnswered",
        "NamesVerified",
        "CertificateRequested",
        "CertificateDownloaded",
        "CertificateInstalled",
    ] {
        let world = World::start();
        assert!(run(&world, step), "{step}");
        let running = world.run();
        running.route("shop", &["shop.test", "www.shop.test"]).await;
        running.obtained("shop").await;
        assert_eq!(
            running.names("shop.test"),
            ["shop.test", "www.shop.test"],
            "{step}"
        );
        assert_eq!(running.happened("AccountCreated"), 0, "{step}");
        assert_eq!(orders(&world), 1, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_in_a_row_it_gets_there() {
    let world = World::start();
    for step in [
        "OrderPlaced",
        "ChallengeAnswered",
        "NamesVerified",
        "CertificateRequested",
        "CertificateDownloaded",
        "CertificateInstalled",
    ] {
        assert!(run(&world, step), "{step}");
    }
    assert!(!run(&world, "Nothing"));
    assert_eq!(orders(&world), 1);
    serial(world.state.path(), "shop.test");
}

/// As after a crash between the certificate and the end of its order.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_has_ended_is_not_renewed_with() {
    let world = World::start();
    let ports = world.pebble.ports;
    let order = world.state.path().join("orders/shop.test.json");
    let copy = world.state.path().join("copy.json");
    let [from, to] = [order.clone(), copy.clone()];
    let observer = move |event: &AcmeEvent<'_>| {
        if matches!(event, AcmeEvent::CertificateDownloaded { .. }) {
            std::fs::copy(&from, &to).unwrap();
        }
    };
    let running = Running::observed(world.settings(), Some(ports.http), ports.https, observer);
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    running.stop().await;
    std::fs::rename(copy, order).unwrap();

    let running = world.run();
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    let first = serial(world.state.path(), "shop.test");
    running.acme.renew(&"shop".into()).await.unwrap();
    assert_ne!(serial(world.state.path(), "shop.test"), first);
    assert_eq!(orders(&world), 2);
}

/// Orders that pebble has taken. A nonce that it refused is sent again.
fn orders(world: &World) -> usize {
    world.pebble.logged("Added order ")
}
