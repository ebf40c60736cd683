//! Probes of what listens on a Unix socket.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use vela_health::test_util::conformance;
use vela_health::{Address, HttpProbe, Probe, ProbeError, Target, TcpProbe};

/// A directory with a socket that answers each request as it is told to.
fn serving(answer: &'static str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let wants_localhost =
                String::from_utf8_lossy(&head).contains("\r\nhost: localhost\r\n");
            if wants_localhost {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (dir, path)
}

fn http() -> HttpProbe {
    HttpProbe::new("/health").unwrap()
}

#[tokio::test]
async fn both_probes_pass_the_suite() {
    let (_up, up) = serving("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (_down, down) = serving("HTTP/1.1 503 Oh\r\ncontent-length: 0\r\n\r\n");
    let targets = (Target::unix(&up), Target::unix(down));
    conformance((&http(), targets.0), (&http(), targets.1)).await;
    let nobody = Target::unix(up.with_file_name("nobody"));
    let tcp = TcpProbe::new();
    conformance((&tcp, Target::unix(up)), (&tcp, nobody)).await;
}

#[tokio::test]
async fn nobody_there_is_a_failed_connection() {
    let path = Path::new("/nowhere/app.sock");
    let error = http().check(&Target::unix(path)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot connect to unix:/nowhere/app.sock"
    );
    assert!(
        matches!(&error, ProbeError::Connect { addr: Address::Unix(at), .. } if at == path),
        "{error:?}"
    );
}

#[tokio::test]
async fn another_port_is_one_of_localhost() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    let target = Target::unix("/nowhere/app.sock");
    TcpProbe::new().port(port).check(&target).await.unwrap();
}

#[tokio::test]
async fn a_socket_of_another_user_is_not_asked() {
    let (dir, path) = serving("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let own = dir.path().metadata().unwrap().uid();
    let target = Target::unix(&path).owned_by(own);
    http().check(&target).await.unwrap();
    let target = Target::unix(&path).owned_by(own + 1);
    let error = http().check(&target).await.unwrap_err();
    let ProbeError::Connect { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        source.to_string(),
        format!("the user {own} listens there, and not {}", own + 1)
    );
}
