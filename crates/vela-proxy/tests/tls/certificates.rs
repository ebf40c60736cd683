//! Which certificate a client gets, and when it changes.

use vela_proxy::tls::Origin;

use crate::world::{World, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_name_chooses_the_certificate() {
    let world = World::start().await;
    let wild = world.authority.certificate(&["*.b.test", "b.test"]);
    world.store.put(Origin::Managed, "b", wild);
    for host in ["a.test", "b.test"] {
        text(&world.curl(&[&format!("https://{host}/")]).await);
    }
    let unknown = world.curl(&["https://www.b.test/"]).await;
    assert!(text(&unknown).starts_with("404"), "trusted, but no route");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_never_fails_for_want_of_a_certificate() {
    let world = World::start().await;
    world.store.remove(Origin::Static, "a");
    let said = world.openssl("a.test", &[]).await;
    assert!(
        said.contains("subject=CN = no certificate for this host (self-signed)"),
        "{said}"
    );
    assert!(said.contains("200 OK"), "{said}");
    let said = world.openssl("a.test", &["-noservername"]).await;
    assert!(said.contains("200 OK"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_for_new_connections_and_touches_no_other() {
    let world = World::start().await;
    let old = world.openssl("a.test", &["-showcerts"]).await;
    let kept = crate::connections::Keeping::connect(&world).await;
    let changed = world.authority.certificate(&["a.test", "www.a.test"]);
    world.store.put(Origin::Static, "a", changed);
    let new = world.openssl("a.test", &["-showcerts"]).await;
    let certificate = |text: &str| {
        let begin = text.find("-----BEGIN CERTIFICATE").unwrap();
        let end = text.find("-----END CERTIFICATE").unwrap();
        text[begin..end].to_owned()
    };
    assert_ne!(certificate(&old), certificate(&new));
    kept.get().await;
}
