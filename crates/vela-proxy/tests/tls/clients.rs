//! What curl and openssl see.

use std::process::Command;

use vela_proxy::tls::{DnsName, TlsSettings};

use crate::world::{Authority, LARGE, World, run, text};

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_spoken_and_the_app_knows() {
    let world = World::start().await;
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let answer = world.curl(&[version, &["https://a.test/x"]].concat()).await;
        let answer = text(&answer).to_lowercase();
        assert!(answer.contains("get /x http/1.1"), "{answer}");
        assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
        assert!(
            answer.contains("x-forwarded-for: 127.0.0.1\r\n"),
            "{answer}"
        );
    }
    let stats = world.tls.stats();
    assert_eq!((stats.handshakes, stats.failed), (2, 0));
    let old = world
        .openssl("a.test", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
        .await;
    assert!(old.contains("no peer certificate available"), "{old}");
    world.until("a refusal", |stats| stats.failed == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_weak_is_agreed_to() {
    let world = World::start().await;
    for weak in [
        "AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "DHE-RSA-AES128-GCM-SHA256",
        "NULL",
        "RC4",
    ] {
        let said = world.openssl("a.test", &["-tls1_2", "-cipher", weak]).await;
        assert!(!said.contains("BEGIN CERTIFICATE"), "{weak}: {said}");
    }
    let compressed = world.openssl("a.test", &["-tls1_2", "-comp"]).await;
    assert!(compressed.contains("Compression: NONE"), "{compressed}");
    assert!(
        compressed.contains("Secure Renegotiation IS supported"),
        "{compressed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_is_negotiated() {
    let world = World::start().await;
    let said = world.openssl("a.test", &["-alpn", "h3,http/1.1"]).await;
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    let said = world.openssl("a.test", &["-alpn", "spdy/1"]).await;
    assert!(said.contains("alert no application protocol"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_checks_a_name_gets_its_answer_and_nobody_else() {
    let world = World::start().await;
    let check = async || world.openssl("new.test", &["-alpn", "acme-tls/1"]).await;
    let said = check().await;
    assert!(!said.contains("BEGIN CERTIFICATE"), "{said}");

    let name: DnsName = "new.test".parse().unwrap();
    world.store.put_challenge(name.clone(), &[7; 32]).unwrap();
    let said = check().await;
    assert!(said.contains("ALPN protocol: acme-tls/1"), "{said}");
    let certificate = world.file("challenge.pem", &said);
    let mut openssl = Command::new("openssl");
    openssl
        .args(["x509", "-noout", "-text", "-in"])
        .arg(certificate);
    let certificate = text(&run(openssl, "").await);
    assert!(certificate.contains("DNS:new.test"), "{certificate}");
    assert!(
        certificate.contains("1.3.6.1.5.5.7.1.31: critical"),
        "{certificate}"
    );
    assert_eq!(world.tls.stats().challenges, 1);

    for protocols in ["http/1.1,acme-tls/1", "http/1.1"] {
        let said = world.openssl("new.test", &["-alpn", protocols]).await;
        assert!(said.contains("i:CN = The tests' authority"), "{said}");
    }
    world.store.remove_challenge(&name);
    assert!(!check().await.contains("BEGIN CERTIFICATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed() {
    let world = World::start().await;
    for (number, version) in (1..).zip(["-tls1_2", "-tls1_3"]) {
        let session = world.dir.path().join(version);
        let session = session.to_str().unwrap();
        let first = world
            .openssl("a.test", &[version, "-sess_out", session])
            .await;
        assert!(first.contains("New, TLS"), "{first}");
        let second = world
            .openssl("a.test", &[version, "-sess_in", session])
            .await;
        assert!(second.contains("Reused, TLS"), "{second}");
        assert!(second.contains("200 OK"), "{second}");
        assert_eq!(world.tls.stats().resumed, number);
    }
    let stats = world.tls.stats();
    assert_eq!(
        (stats.handshakes, stats.tls12, stats.tls12_resumed),
        (4, 2, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let world = World::start().await;
    let answer = text(&world.curl(&["https://a.test/large"]).await);
    assert_eq!(answer.len(), LARGE);
    let file = world.file("body", &"y".repeat(LARGE));
    let data = format!("@{}", file.display());
    let answer = text(
        &world
            .curl(&["--data-binary", &data, "https://a.test/"])
            .await,
    );
    assert!(answer.ends_with(&format!("body: {LARGE}\n")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_must_have_a_certificate_if_so_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clients.pem");
    let clients = Authority::new("Clients");
    std::fs::write(&path, &clients.pem).unwrap();
    let settings = TlsSettings {
        client_ca: Some(path.clone()),
        ..TlsSettings::default()
    };
    let world = World::with(settings, |listener| listener).await;
    let get = async |authority: &Authority| {
        let (chain, key) = authority.pair(&["client.test"]);
        let chain = world.file("client.pem", &chain);
        let key = world.file("client.key", &key);
        let [chain, key] = [&chain, &key].map(|path| path.to_str().unwrap());
        let options = ["--cert", chain, "--key", key, "https://a.test/"];
        world.curl(&options).await
    };
    let refused = world.curl(&["https://a.test/"]).await;
    assert!(!refused.status.success());
    text(&get(&clients).await);
    let others = Authority::new("Others");
    assert!(!get(&others).await.status.success());
    world.until("two refusals", |stats| stats.failed == 2).await;

    // A file that is bad changes nothing; one that is good holds from now on.
    std::fs::write(&path, "nothing").unwrap();
    assert!(world.tls.reload_client_ca().is_err());
    text(&get(&clients).await);
    std::fs::write(&path, &others.pem).unwrap();
    world.tls.reload_client_ca().unwrap();
    text(&get(&others).await);
    assert!(!get(&clients).await.status.success());
}
