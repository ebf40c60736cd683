//! A new host gets its certificate during its deploy, and nothing of that can end the deploy.

use vela_protocol::Event;

use crate::pebble::Pebble;
use crate::{HOST, https, names, obtained, obtaining, orders, release, until, warnings};
use vela_tests::World;

#[tokio::test]
async fn a_deploy_ends_with_the_certificate_of_its_hosts() {
    let pebble = Pebble::start();
    let world = World::with(obtaining(&pebble, "")).await;
    let done = world.deploy(&release("shop", HOST, &[])).await.expect(0);
    assert!(done.stderr.contains("(valid until "), "{done:?}");
    // No waiting here: it is there when the deploy ends.
    let answer = https(&world, &pebble, HOST).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") || answer.starts_with("HTTP/2 200"),
        "{answer}"
    );

    // An added alias is in the next one; a deploy that changes no host waits for none.
    let alias = "www.shop.localhost";
    let done = world
        .deploy(&release("shop", HOST, &[alias]))
        .await
        .expect(0);
    assert!(done.stderr.contains("certify: "), "{done:?}");
    assert_eq!(names(&obtained(&world).await), [HOST, alias]);
    let done = world
        .deploy(&release("shop", HOST, &[alias]))
        .await
        .expect(0);
    assert!(!done.stderr.contains("certify"), "{done:?}");
    assert_eq!(orders(&pebble), 2);

    // The hosts of the release before: its certificate is there already.
    world.vela(&["rollback", "shop"]).await.expect(0);
    world.vela(&["rollback", "shop"]).await.expect(0);
    assert_eq!(orders(&pebble), 2);
    world.vela(&["certs", "renew", "shop"]).await.expect(0);
    assert_eq!(names(&obtained(&world).await), [HOST]);
}

#[tokio::test]
async fn the_event_says_for_what_until_when_and_how_long() {
    let pebble = Pebble::start();
    let world = World::with(obtaining(&pebble, "")).await;
    let release = release("shop", HOST, &[]);
    let (manifest, files) = (release.manifest(), release.files());
    let [manifest, files] = [&manifest, &files].map(|path| path.to_str().unwrap());
    let done = world
        .vela(&["deploy", "--json", "-m", manifest, files])
        .await;
    let events: Vec<vela_protocol::Envelope> = done
        .expect(0)
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found = events.iter().find_map(|one| match &one.event {
        Event::CertificateObtained {
            hosts, not_after, ..
        } => Some((hosts.clone(), *not_after > one.time)),
        _ => None,
    });
    assert_eq!(found, Some((vec![HOST.to_owned()], true)), "{events:?}");
}

#[tokio::test]
async fn what_is_undone_after_the_switch_has_ordered_nothing() {
    let pebble = Pebble::start();
    let mut world = World::stopped(obtaining(&pebble, ""));
    let hit = world.dir().join("hit");
    let hit = [
        ("VELA_FAILPOINT", "commit:before:error"),
        ("VELA_FAILPOINT_HIT", hit.to_str().unwrap()),
    ];
    world.start(&hit).await;
    world
        .deploy(&release("shop", "other.localhost", &[]))
        .await
        .expect(1);
    assert!(world.dir().join("hit").exists());
    world.deploy(&release("shop", HOST, &[])).await.expect(0);
    assert_eq!(names(&obtained(&world).await), [HOST]);
    // The same with a host that is added to one.
    std::fs::remove_file(world.dir().join("hit")).unwrap();
    let undone = release("shop", HOST, &["other.localhost"]);
    world.deploy(&undone).await.expect(3);
    // Whatever was asked for meanwhile is through after this one.
    world.vela(&["certs", "renew", "shop"]).await.expect(0);
    assert_eq!(names(&obtained(&world).await), [HOST]);
    assert_eq!(orders(&pebble), 2);
    assert_eq!(pebble.logged("other.localhost"), 0);
}

#[tokio::test]
async fn an_authority_that_is_down_is_a_warning() {
    let mut pebble = Pebble::start();
    let world = World::with(obtaining(&pebble, "")).await;
    pebble.down();
    let done = world.deploy(&release("shop", HOST, &[])).await.expect(0);
    let warning =
        "warning: no certificate for shop.localhost: cannot talk to the certificate authority";
    assert!(done.stderr.contains(warning), "{done:?}");
    assert!(done.stderr.contains("; next try 20"), "{done:?}");
    let (status, _) = vela_tests::get(world.http(), HOST, "/").await;
    assert_eq!(status, 200, "there is nothing to redirect to");
    let warned = warnings(&world, "shop").await;
    assert!(
        warned.contains("cannot talk to the certificate authority"),
        "{warned}"
    );
    assert!(
        warned.contains("clients get a self-signed one, which nothing trusts"),
        "{warned}"
    );
    // By itself, when its time has come.
    pebble.up();
    until("the certificate", &world, async || {
        obtained(&world).await["state"] == "valid"
    })
    .await;
    assert_eq!(warnings(&world, "shop").await, "[]");
    assert!(https(&world, &pebble, HOST).await.contains(" 200"));
}

#[tokio::test]
async fn two_apps_at_once_get_one_each() {
    let pebble = Pebble::start();
    let world = World::with(obtaining(&pebble, "")).await;
    let (shop, blog) = (
        release("shop", HOST, &[]),
        release("blog", "blog.localhost", &["www.blog.localhost"]),
    );
    let (one, other) = tokio::join!(world.deploy(&shop), world.deploy(&blog));
    for done in [one, other] {
        assert!(done.expect(0).stderr.contains("(valid until "));
    }
    let all = crate::certificates(&world, "acme").await;
    let apps: Vec<_> = all.iter().map(|one| one["apps"].to_string()).collect();
    assert_eq!(apps, ["[\"blog\"]", "[\"shop\"]"], "{all:?}");
    assert_eq!(orders(&pebble), 2);
    let accounts = std::fs::read_dir(world.data_dir().join("tls/accounts"));
    assert_eq!(accounts.unwrap().count(), 1);

    // A removed app's certificate is renewed no more.
    world.vela(&["remove", "blog", "--yes"]).await.expect(0);
    let all = crate::certificates(&world, "acme").await;
    let left: Vec<_> = all
        .iter()
        .filter(|one| one["apps"] == serde_json::json!([]))
        .collect();
    assert!(
        left.iter()
            .all(|one| one["warnings"].to_string().contains("not renewed")),
        "{all:?}"
    );
    world.vela(&["certs", "renew", "blog"]).await.expect(1);
}

#[tokio::test]
async fn apps_that_share_a_host_share_its_certificate() {
    let pebble = Pebble::start();
    let world = World::with(obtaining(&pebble, "")).await;
    let api = release("api", HOST, &[]);
    let manifest = std::fs::read_to_string(api.manifest()).unwrap();
    api.set_manifest(&format!("{manifest}[proxy]\npath = \"/api\"\n"));
    // Nothing is routed where the authority looks.
    let done = world.deploy(&api).await.expect(0);
    assert!(done.stderr.contains("(valid until "), "{done:?}");
    let shop = release("shop", HOST, &["www.shop.localhost"]);
    let done = world.deploy(&shop).await.expect(0);
    assert!(done.stderr.contains("(valid until "), "{done:?}");
    let all = crate::certificates(&world, "acme").await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["apps"], serde_json::json!(["api", "shop"]));
    assert_eq!(names(&all[0]), [HOST, "www.shop.localhost"]);
    assert_eq!(orders(&pebble), 2);
}
