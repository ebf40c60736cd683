//! What a scanner of TLS finds.

use tokio::process::Command;
use vela_tests::{Output, World};

use crate::pebble::Pebble;
use crate::{HOST, obtaining, release};

#[tokio::test]
async fn it_finds_nothing_weak() {
    let pebble = Pebble::start();
    let world = World::with(obtaining(&pebble, "")).await;
    world.deploy(&release("shop", HOST, &[])).await.expect(0);
    let output = Command::new("sslscan")
        .arg("--no-colour")
        .arg(format!("--sni-name={HOST}"))
        .arg(format!("127.0.0.1:{}", pebble.ports.https))
        .output()
        .await
        .unwrap();
    let found = Output::from(output).expect(0).stdout;
    for (what, verdict) in [
        ("SSLv2", "disabled"),
        ("SSLv3", "disabled"),
        ("TLSv1.0", "disabled"),
        ("TLSv1.1", "disabled"),
        ("TLSv1.2", "enabled"),
        ("TLSv1.3", "enabled"),
        ("TLSv1.3 not vulnerable", "heartbleed"),
        ("TLSv1.2 not vulnerable", "heartbleed"),
    ] {
        let says = |line: &str| line.starts_with(what) && line.contains(verdict);
        assert!(found.lines().any(says), "{what}: {found}");
    }
    assert!(found.contains(&format!("using SNI name {HOST}")), "{found}");
    assert!(found.contains("Issuer:   Pebble"), "{found}");
    let is_vulnerable =
        |line: &str| line.contains("vulnerable") && !line.contains("not vulnerable");
    assert!(!found.lines().any(is_vulnerable), "{found}");
    let ciphers: Vec<&str> = found
        .lines()
        .filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"))
        .collect();
    assert!(ciphers.len() >= 5, "{found}");
    for line in ciphers {
        let is_aead = line.contains("GCM") || line.contains("CHACHA20");
        let is_forward = line.contains("ECDHE") || line.contains("TLSv1.3");
        assert!(is_aead && is_forward, "{line}");
    }
}
