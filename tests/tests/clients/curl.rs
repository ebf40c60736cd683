use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use hyper::Method;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use vela_tests::Output;

use crate::app::{GREETING, LARGE, described};
use crate::{app, front, run};

/// A body that is different everywhere, of so many bytes.
fn body(length: usize) -> Vec<u8> {
    let numbers =
        (0u64..).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    numbers.take(length).collect()
}

async fn curl(args: &[&str]) -> Output {
    run(
        "curl",
        &[&["--silent", "--show-error", "--fail"], args].concat(),
    )
    .await
    .expect(0)
}

fn url(addr: SocketAddr, path: &str) -> String {
    format!("http://{addr}{path}")
}

#[tokio::test]
async fn curl_uploads_in_chunks_what_it_reads() {
    let front = front(app::start().await).await;
    let body = body(5_000_001);
    let mut child = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--verbose",
            "--upload-file",
            "-",
        ])
        .arg(url(front.addr(), "/echo"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (sent, output) = tokio::join!(
        async {
            stdin.write_all(&body).await.unwrap();
            drop(stdin);
        },
        child.wait_with_output()
    );
    let () = sent;
    let output = Output::from(output.unwrap()).expect(0);
    assert!(
        output.stderr.contains("> Transfer-Encoding: chunked"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout, described(&Method::PUT, &body));
}

#[tokio::test]
async fn curl_waits_with_a_large_body_until_it_is_asked_for() {
    let front = front(app::start().await).await;
    let body = body(8_000_000);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&body).unwrap();
    let data = format!("@{}", file.path().display());
    // It would wait that long for what the proxy must say, and fail.
    let output = curl(&[
        "--verbose",
        "--header",
        "Expect: 100-continue",
        "--expect100-timeout",
        "60",
        "--max-time",
        "30",
        "--data-binary",
        &data,
        &url(front.addr(), "/echo"),
    ])
    .await;
    assert!(
        output.stderr.contains("< HTTP/1.1 100 Continue"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stdout, described(&Method::POST, &body));
}

#[tokio::test]
async fn curl_uploads_nothing_that_the_app_refuses() {
    let front = front(app::start().await).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&body(8_000_000)).unwrap();
    let output = run(
        "curl",
        &[
            "--silent",
            "--show-error",
            "--header",
            "Expect: 100-continue",
            "--expect100-timeout",
            "60",
            "--max-time",
            "30",
            "--write-out",
            "%{http_code} %{size_upload}",
            "--data-binary",
            &format!("@{}", file.path().display()),
            &url(front.addr(), "/refused"),
        ],
    )
    .await
    .expect(0);
    assert_eq!(output.stdout, "413 0");
}

#[tokio::test]
async fn curl_speaks_the_older_version() {
    let front = front(app::start().await).await;
    let output = curl(&["--http1.0", "--verbose", &url(front.addr(), "/")]).await;
    assert_eq!(output.stdout, GREETING);
    assert!(
        output.stderr.contains("> GET / HTTP/1.0"),
        "{}",
        output.stderr
    );
    let output = curl(&["--http1.0", "--data", "abc", &url(front.addr(), "/echo")]).await;
    assert_eq!(output.stdout, described(&Method::POST, b"abc"));
}

#[tokio::test]
async fn curl_keeps_its_connection() {
    let front = front(app::start().await).await;
    let urls = ["/", "/echo", "/large", "/"].map(|path| url(front.addr(), path));
    let mut args = vec![
        "--write-out",
        "%{stderr}%{num_connects} %{http_code} %{size_download}\n",
    ];
    args.extend(urls.iter().map(|url| &url[..]));
    let output = curl(&args).await;
    let echo = described(&Method::GET, b"").len();
    let wanted = format!("1 200 6\n0 200 {echo}\n0 200 {LARGE}\n0 200 6\n");
    assert_eq!(output.stderr, wanted);
    let head = curl(&[
        "--head",
        &url(front.addr(), "/large"),
        &url(front.addr(), "/"),
    ])
    .await;
    assert_eq!(
        head.stdout.matches("HTTP/1.1 200 OK").count(),
        2,
        "{}",
        head.stdout
    );
    assert!(
        head.stdout
            .contains(&format!("content-length: {LARGE}\r\n")),
        "{}",
        head.stdout
    );
}
