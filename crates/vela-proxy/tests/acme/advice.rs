//! What an authority says about when to come back.

use std::time::{Duration, SystemTime};

use vela_proxy::acme::{AcmeSettings, Certifier, CertifierState};

use crate::front::Front;
use crate::pebble::Pebble;
use crate::world::{LONG, Running, World};

fn behind(world: &World, front: &Front) -> AcmeSettings {
    AcmeSettings {
        directory: front.directory(),
        ..world.settings()
    }
}

fn front(world: &World, window: (&str, &str)) -> Front {
    let dir = world.pebble.dir();
    Front::start(world.pebble.directory(), dir, Some(window), 0, "21600")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_chooses_when_to_renew() {
    let world = World::start();
    let front = front(&world, ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"));
    let running = world.run_with(behind(&world, &front), true);
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600);
    let advised = |state: &CertifierState| match state {
        CertifierState::Valid { renewal_at } => {
            (from..from + Duration::from_secs(86_400)).contains(renewal_at)
        }
        _ => false,
    };
    running
        .until("the advised day", |now| {
            advised(&now.acme.status()[0].state)
        })
        .await;
    assert_eq!(front.asked(), 1);
    assert_eq!(world.orders(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_over_means_now_but_not_again_and_again() {
    let life = Duration::from_secs(45);
    let world = World::with(Pebble::issuing_for(life.as_secs()));
    // All certificates have been revoked, say.
    let front = front(&world, ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"));
    let running = world.run_with(behind(&world, &front), true);
    running.route("shop", &["shop.test"]).await;
    let first = running.obtained("shop").await.not_after.unwrap();
    let second = |now: &Running| now.happened("CertificateInstalled") == 2;
    running.until("a renewal", second).await;
    // By itself it would have waited until about a third was left; at once would be again and again.
    let left = first.duration_since(SystemTime::now()).unwrap_or_default();
    assert!(left > life * 2 / 5 && left <= life * 2 / 3, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_rate_is_obeyed() {
    for (retry_after, least) in [("2", 2), ("Fri, 31 Dec 2100 23:59:59 GMT", 7 * 86_400)] {
        let world = World::start();
        let dir = world.pebble.dir();
        let front = Front::start(world.pebble.directory(), dir, None, 1, retry_after);
        let running = world.run_with(behind(&world, &front), true);
        let begun = SystemTime::now();
        running.route("shop", &["shop.test"]).await;
        let CertifierState::Failing {
            error, retry_at, ..
        } = running.settled("shop").await.state
        else {
            panic!("it was refused")
        };
        assert!(error.contains("too many orders"), "{error}");
        let least = Duration::from_secs(least);
        assert!(retry_at >= begun + least, "{retry_after}");
        if least < Duration::from_secs(10) {
            running
                .until("a certificate", |now| now.store.covers("shop.test"))
                .await;
            assert!(SystemTime::now() >= begun + least);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_refused_is_not_placed_in_another_way() {
    let world = World::start();
    let front = front(&world, ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"));
    let running = world.run_with(behind(&world, &front), true);
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    let advised = |_: &Running| front.asked() == 1;
    running.until("advice", advised).await;
    front.limit(9, 0);
    let renewed = running.acme.renew(&"shop".into()).await.unwrap();
    let CertifierState::Failing { error, .. } = renewed.state else {
        panic!("it was refused")
    };
    assert!(error.contains("too many orders"), "{error}");
    assert_eq!(front.refused(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_beyond_all_time_does_no_harm() {
    let world = World::start();
    let window = ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z");
    let dir = world.pebble.dir();
    let endless = u64::MAX.to_string();
    let front = Front::start(world.pebble.directory(), dir, Some(window), 0, &endless);
    let running = world.run_with(behind(&world, &front), true);
    running.route("shop", &["shop.test"]).await;
    running.obtained("shop").await;
    running.until("advice", |_| front.asked() == 1).await;
    let id = "shop".into();
    let renewing = running.acme.renew(&id);
    let renewed = tokio::time::timeout(LONG, renewing).await.unwrap().unwrap();
    let is_valid = matches!(renewed.state, CertifierState::Valid { .. });
    assert!(is_valid, "{renewed:?}");
    assert_eq!(running.happened("CertificateInstalled"), 2);
}
