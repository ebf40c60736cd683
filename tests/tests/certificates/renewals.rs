//! Certificates that live for seconds are renewed by the daemon, over failures too.

use vela_tests::World;

use crate::pebble::Pebble;
use crate::{HOST, https, obtained, obtaining, release, until, warnings};

async fn serial(world: &World) -> String {
    obtained(world).await["certificate"]["serial"].to_string()
}

#[tokio::test]
async fn renewals_go_on_after_one_that_failed() {
    let mut pebble = Pebble::issuing_for(20);
    let world = World::with(obtaining(&pebble, "")).await;
    world.deploy(&release("shop", HOST, &[])).await.expect(0);
    let first = serial(&world).await;
    until("a renewal", &world, async || serial(&world).await != first).await;
    let second = serial(&world).await;
    pebble.down();
    until("a failure", &world, async || {
        obtained(&world).await["state"] == "failing"
    })
    .await;
    assert_eq!(serial(&world).await, second, "the old one serves");
    let warned = warnings(&world, "shop").await;
    assert!(warned.contains("no new certificate: "), "{warned}");
    pebble.up();
    until("a renewal", &world, async || {
        let one = obtained(&world).await;
        let serial = one["certificate"]["serial"].to_string();
        one["state"] == "valid" && serial != second
    })
    .await;
    // Each failure once, however often it repeats itself. It is written down a moment after.
    let outcomes = async || -> Vec<String> {
        let history = world.vela(&["history", "shop", "--json"]).await.expect(0);
        let history = history.json();
        let certificates = history.as_array().unwrap().iter();
        certificates
            .filter(|one| one["operation"] == "certificate")
            .map(|one| one["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    until("its entry", &world, async || {
        outcomes().await[0] == "succeeded"
    })
    .await;
    // The last failure may be that the authority has forgotten the account.
    assert_eq!(outcomes().await[1], "failed");
    let table = world.vela(&["history", "shop"]).await.expect(0).stdout;
    assert!(
        table.contains("cannot talk to the certificate authority"),
        "{table}"
    );
    assert!(https(&world, &pebble, HOST).await.contains(" 200"));
}
