//! Hosts with a star.

use vela_protocol::{Event, Step};
use vela_tests::World;

use crate::pebble::Pebble;
use crate::{
    Gate, HOST, begin, https, names, obtained, obtaining, orders, release, until, warnings,
};

const STAR: &str = "*.shop.localhost";

#[tokio::test]
async fn a_star_is_certified_by_dns() {
    let pebble = Pebble::start();
    let gate = Gate::new();
    gate.open();
    let hook = gate.hook(&pebble, "set");
    let world = World::with(obtaining(&pebble, &hook)).await;
    let done = world
        .deploy(&release("shop", STAR, &[HOST]))
        .await
        .expect(0);
    assert!(done.stderr.contains("(valid until "), "{done:?}");
    assert_eq!(names(&obtained(&world).await), [STAR, HOST]);
    for host in ["any.shop.localhost", "other.shop.localhost", HOST] {
        let answer = https(&world, &pebble, host).await;
        assert!(answer.contains(" 200"), "{host}: {answer}");
    }
    let refused = https(&world, &pebble, "a.b.shop.localhost").await;
    assert!(refused.contains("certificate"), "{refused}");
    assert_eq!(warnings(&world, "shop").await, "[]");
    let hook = std::fs::read_to_string(pebble.dns_log()).unwrap();
    assert!(
        hook.contains("remove _acme-challenge.shop.localhost"),
        "{hook}"
    );
}

#[tokio::test]
async fn without_a_hook_the_star_is_missing_and_the_rest_is_served() {
    let pebble = Pebble::start();
    let world = World::with(obtaining(&pebble, "")).await;
    let done = world
        .deploy(&release("shop", STAR, &[HOST]))
        .await
        .expect(0);
    let hint = "a name with a star needs `dns_hook` in [tls] of server.toml";
    assert!(
        done.stderr
            .contains("warning: no certificate for *.shop.localhost"),
        "{done:?}"
    );
    assert!(done.stderr.contains(hint), "{done:?}");
    let warned = warnings(&world, "shop").await;
    assert!(warned.contains(hint), "{warned}");
    assert!(
        warned.contains("no certificate for *.shop.localhost: clients get"),
        "{warned}"
    );
    assert!(https(&world, &pebble, HOST).await.contains(" 200"));
    assert_eq!(orders(&pebble), 1, "what cannot be proved is not ordered");
}

#[tokio::test]
async fn a_deploy_waits_for_a_slow_one_no_longer_than_half_a_minute() {
    let pebble = Pebble::start();
    let gate = Gate::new();
    let hook = gate.hook(&pebble, "set");
    let world = World::with(obtaining(&pebble, &hook)).await;
    let done = world.deploy(&release("shop", STAR, &[])).await.expect(0);
    assert_eq!(gate.reached(), 1);
    let text = "warning: the certificate for *.shop.localhost is not there yet";
    assert!(done.stderr.contains(text), "{done:?}");
    let warned = warnings(&world, "shop").await;
    assert!(
        warned.contains("its certificate is being obtained"),
        "{warned}"
    );
    gate.open();
    until("the certificate", &world, async || {
        obtained(&world).await["state"] == "valid"
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_stops_waits_for_no_certificate() {
    let pebble = Pebble::start();
    let gate = Gate::new();
    let hook = gate.hook(&pebble, "set");
    let mut world = World::with(obtaining(&pebble, &hook)).await;
    let mut deploy = begin(&world, &release("shop", STAR, &[])).await;
    deploy.reach(Step::Certify).await;
    until("the hook", &world, async || gate.reached() == 1).await;
    assert_eq!(world.stop_daemon().await, Some(0));
    let is_delayed = |event: &Event| matches!(event, Event::CertificateDelayed { error: None, .. });
    deploy.succeed().await;
    assert!(deploy.events().any(is_delayed), "{deploy:?}");
    // The next one goes on with it.
    gate.open();
    world.start(&[]).await;
    until("the certificate", &world, async || {
        obtained(&world).await["state"] == "valid"
    })
    .await;
    assert_eq!(orders(&pebble), 1);
}
