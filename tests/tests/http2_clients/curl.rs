use crate::app::{self, LARGE};
use crate::front::Front;
use crate::run;

#[tokio::test]
async fn curl_speaks_http_2() {
    let front = Front::start(app::start().await.0).await;
    let certificate = front.certificate();
    let curl = async |args: &[&str]| {
        let common = [
            "--silent",
            "--show-error",
            "--fail",
            "--http2",
            "--cacert",
            &certificate,
            "--write-out",
            "%{http_version} %{http_code} %{size_download}\n",
        ];
        run("curl", &[&common, args].concat())
            .await
            .expect(0)
            .stdout
    };
    let head = curl(&["--head", &front.url("/large")]).await;
    assert!(head.starts_with("HTTP/2 200"), "{head}");
    let json = curl(&["--cookie", "a=1; b=2", &front.url("/json")]).await;
    assert!(json.starts_with("GET /json HTTP/1.1\r\n"), "{json}");
    assert!(json.contains("cookie: a=1; b=2\r\n"), "{json}");
    assert!(json.contains("\n2 200 "), "{json}");

    let dir = tempfile::tempdir().unwrap();
    let [sent, got] = ["sent", "got"].map(|name| dir.path().join(name));
    let body: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
    std::fs::write(&sent, &body).unwrap();
    let data = format!("@{}", sent.display());
    let got_path = got.to_str().unwrap();
    for way in [
        ["--data-binary", &data],
        ["--upload-file", sent.to_str().unwrap()],
    ] {
        let url = front.url("/echo");
        let args = [&way[..], &["--output", got_path, &url]].concat();
        assert_eq!(curl(&args).await, format!("2 200 {LARGE}\n"));
        assert!(std::fs::read(&got).unwrap() == body);
    }

    // Many over one connection.
    let many = front.url("/large?[1-50]").replace("large", "other");
    let handshakes = front.tls.stats().handshakes;
    let said = curl(&[
        "--parallel",
        "--parallel-max",
        "50",
        "--output",
        got_path,
        &many,
    ])
    .await;
    assert_eq!(said, "2 200 6\n".repeat(50));
    assert_eq!(front.tls.stats().handshakes, handshakes + 1);
}
