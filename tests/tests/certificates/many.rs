//! A daemon with a thousand certificates.

use std::fmt::Write;
use std::process::Stdio;

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use vela_tests::World;

use crate::pebble::Pebble;
use crate::{HOST, LONG, certificates, given, release, until};

const MANY: usize = 1000;

#[tokio::test]
async fn a_thousand_are_served_and_one_that_is_replaced_disturbs_nobody() {
    let pebble = Pebble::start(); // for its ports
    let dir = tempfile::tempdir().unwrap();
    let file = |number: usize, kind: &str| dir.path().join(format!("{number}.{kind}"));
    let write = |number: usize| {
        let host = if number == 0 {
            HOST.to_owned()
        } else {
            format!("a{number}.localhost")
        };
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        std::fs::write(file(number, "pem"), certificate).unwrap();
        std::fs::write(file(number, "key"), key.serialize_pem()).unwrap();
    };
    let mut config = String::new();
    for number in 0..MANY {
        write(number);
        let (cert, key) = (file(number, "pem"), file(number, "key"));
        writeln!(
            config,
            "[[tls.certificates]]\ncert = {cert:?}\nkey = {key:?}"
        )
        .unwrap();
    }
    let world = World::with(given(&pebble, &config)).await;
    world.deploy(&release("shop", HOST, &[])).await.expect(0);
    let all = certificates(&world, "static").await;
    assert_eq!(all.len(), MANY);
    assert!(all.iter().all(|one| one["state"] == "valid"));

    let mut kept = Kept::connect(pebble.ports.https);
    kept.get().await;
    let serial = async || {
        let all = certificates(&world, "static").await;
        let own = all
            .into_iter()
            .find(|one| one["id"] == file(0, "pem").to_str().unwrap());
        own.unwrap()["certificate"]["serial"].clone()
    };
    let before = serial().await;
    write(0);
    until("the new one", &world, async || serial().await != before).await;
    kept.get().await;
}

/// A connection that stays.
struct Kept {
    openssl: Child,
}

impl Kept {
    fn connect(port: u16) -> Kept {
        let openssl = Command::new("openssl")
            .args(["s_client", "-quiet", "-servername", HOST, "-connect"])
            .arg(format!("127.0.0.1:{port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Kept { openssl }
    }

    async fn get(&mut self) {
        let request = format!("GET /health HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        let stdin = self.openssl.stdin.as_mut().unwrap();
        stdin.write_all(request.as_bytes()).await.unwrap();
        let stdout = self.openssl.stdout.as_mut().unwrap();
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            let read = timeout(LONG, stdout.read_buf(&mut answer));
            let read = read.await.unwrap().unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Whether an answer has come to the end of its body.
fn is_whole(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.unwrap().parse().unwrap()
}
