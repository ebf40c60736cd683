//! What HTTP clients are told, and HTTPS clients for the future.

use std::time::Duration;

use vela_proxy::ProxyConfig;
use vela_proxy::tls::TlsSettings;

use crate::world::{World, text};

#[tokio::test(flavor = "multi_thread")]
async fn http_is_redirected_where_https_works() {
    let world = World::start().await;
    let port = world.https.port();
    let head = world.curl(&["--head", "http://a.test/x%20y/?q=1&r"]).await;
    let head = text(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 308 "), "{head}");
    let location = format!("location: https://a.test:{port}/x%20y/?q=1&r\r\n");
    assert!(head.contains(&location), "{head}");

    // It keeps the method and the body.
    let answer = world
        .curl(&["--location", "--data", "12345", "http://a.test/x"])
        .await;
    let answer = text(&answer);
    assert!(answer.starts_with("POST /x HTTP/1.1"), "{answer}");
    assert!(answer.ends_with("body: 5\n"), "{answer}");

    for url in [
        "http://b.test/",
        "http://a.test/.well-known/acme-challenge/x",
    ] {
        let answer = text(&world.curl(&[url]).await).to_lowercase();
        assert!(
            answer.contains("x-forwarded-proto: http\r\n"),
            "{url}: {answer}"
        );
    }
    let unknown = text(&world.curl(&["http://c.test/"]).await);
    assert!(unknown.starts_with("404"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hsts_is_sent_where_it_can_be_kept() {
    let hour = Duration::from_secs(3600);
    let world = World::with(TlsSettings::default(), |https| https.with_hsts(hour)).await;
    let head = text(&world.curl(&["--include", "https://a.test/"]).await);
    assert!(
        head.contains("strict-transport-security: max-age=3600\r\n"),
        "{head}"
    );
    let own = text(&world.curl(&["--include", "https://a.test/own-hsts"]).await);
    assert!(
        own.contains("strict-transport-security: max-age=1\r\n"),
        "{own}"
    );
    assert!(!own.contains("max-age=3600"), "{own}");
    for options in [&["--insecure", "https://b.test/"][..], &["http://b.test/"]] {
        let head = world.curl(&[&["--include"], options].concat()).await;
        assert!(!text(&head).contains("strict-transport"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_a_balancer_by_https_is_not_sent_there_again() {
    let world = World::configured(trusting(), TlsSettings::default(), |one| one, |one| one).await;
    let by = |scheme: &str| format!("x-forwarded-proto: {scheme}");
    let url = "http://a.test/x";
    let answer = world.curl(&["--header", &by("https"), url]).await;
    let answer = text(&answer).to_lowercase();
    assert!(answer.starts_with("get /x http/1.1"), "{answer}");
    let head = world.curl(&["--head", "--header", &by("http"), url]).await;
    assert!(text(&head).starts_with("HTTP/1.1 308 "));
    // What a client says of it through a balancer that does not know this header.
    let claims = [
        "--header",
        "x-forwarded-for: 192.0.2.1",
        "--header",
        "forwarded: for=192.0.2.1;proto=https",
    ];
    let head = world
        .curl(&[&["--head"], &claims[..], &[url]].concat())
        .await;
    assert!(text(&head).starts_with("HTTP/1.1 308 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_listener_redirects_and_leads_to_no_app() {
    let settings = TlsSettings::default();
    let world = World::configured(trusting(), settings, |one| one, |one| one.closed()).await;
    let head = text(&world.curl(&["--head", "http://a.test/"]).await);
    assert!(head.starts_with("HTTP/1.1 308 "), "{head}");
    let unknown = text(&world.curl(&["http://c.test/"]).await);
    assert!(unknown.starts_with("404"), "{unknown}");
    for options in [
        &["http://b.test/"][..],
        &["--request-target", "*", "-X", "OPTIONS", "http://b.test/"],
        &["http://a.test/.well-known/acme-challenge/x"],
        &["--header", "x-forwarded-proto: https", "http://a.test/"],
    ] {
        let answer = text(&world.curl(options).await);
        assert!(
            answer.starts_with("403 Forbidden\nclients must come by HTTPS, with a certificate"),
            "{options:?}: {answer}"
        );
    }
}

/// A proxy that believes the clients of this machine.
fn trusting() -> ProxyConfig {
    ProxyConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..ProxyConfig::default()
    }
}
