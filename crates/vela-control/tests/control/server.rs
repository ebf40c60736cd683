//! The server over a real engine, asked by the client and by hand.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;
use vela_control::{Client, ClientError, UnixTransport, bind, serve};
use vela_deploy::{Dirs, Engine, Stack};
use vela_protocol::{DeployRequest, ErrorCode, MaintenanceRequest, SecretChange};
use vela_proxy::{Proxy, ProxyConfig};
use vela_supervisor::{InProcess, Ports};

use crate::client::request;

struct Daemon {
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Daemon {
    async fn start() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let stack = Stack::local(
            Dirs::new(dir.path().join("data")),
            Arc::new(InProcess::new()),
            Ports::new(20_000..=29_999),
            Proxy::new(ProxyConfig::default()),
        );
        let engine = Engine::open(stack).await.unwrap();
        let listener = bind(&dir.path().join("vela.sock"), None).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(engine, listener, async {
            stopped.await.unwrap_or_default();
        }));
        Daemon {
            dir,
            stop: Some(stop),
            serving,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("vela.sock")
    }

    fn client(&self) -> Client {
        Client::new(Arc::new(UnixTransport::new(self.socket())))
    }

    /// What a peer gets that sends `request` and closes its side.
    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
        .await
    }
}

fn api_code(error: ClientError) -> ErrorCode {
    match error {
        ClientError::Api(error) => error.code,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn it_says_what_it_is_and_has_no_apps_yet() {
    let daemon = Daemon::start().await;
    let version = daemon.client().version().await.unwrap();
    assert_eq!(version.pid, std::process::id());
    assert_eq!(version.protocol, vela_protocol::VERSION);
    assert!(daemon.client().apps().await.unwrap().is_empty());
    let answer = daemon.get("/v1/apps").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("[]\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn metrics_are_text_as_scrapers_read_it() {
    let daemon = Daemon::start().await;
    let metrics = daemon.client().metrics().await.unwrap();
    assert!(
        metrics.contains("\nvela_proxy_connections 0\n") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    let answer = daemon.get("/v1/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, metrics);
    let kind = format!("content-type: {}", vela_proxy::Metrics::CONTENT_TYPE);
    assert!(head.lines().any(|line| line == kind), "{head}");
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    assert_eq!(
        api_code(client.status("nobody").await.unwrap_err()),
        ErrorCode::NotFound
    );
    assert_eq!(
        api_code(client.attach(Uuid::new_v4(), 0).await.unwrap_err()),
        ErrorCode::NotFound
    );
    assert_eq!(
        api_code(client.status("../x").await.unwrap_err()),
        ErrorCode::Invalid
    );
    for request in [Some(&MaintenanceRequest::default()), None] {
        let refused = client.maintain("nobody", request).await.unwrap_err();
        assert_eq!(api_code(refused), ErrorCode::NotFound);
    }
    assert!(daemon.get("/v2/apps").await.starts_with("HTTP/1.1 404"));
    assert!(
        daemon
            .get("/v1/deploys/x/events")
            .await
            .starts_with("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn an_upload_is_kept_under_its_id_and_can_be_dropped() {
    let daemon = Daemon::start().await;
    let (client, id) = (daemon.client(), Uuid::new_v4());
    let upload = client.upload(id, &b"bytes"[..], 5, |_| ()).await.unwrap();
    assert_eq!((upload.upload, upload.size), (id, 5));
    let held = daemon.dir.path().join("data/staging").join(id.to_string());
    assert_eq!(std::fs::read(&held).unwrap(), b"bytes");
    client.discard_upload(id).await.unwrap();
    assert!(!held.exists());
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let daemon = Daemon::start().await;
    let id = Uuid::new_v4();
    let mut stream = UnixStream::connect(daemon.socket()).await.unwrap();
    let head =
        format!("PUT /v1/uploads/{id} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf");
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    // The daemon may not have noticed yet; the same id is free as soon as it has.
    let client = daemon.client();
    while client.upload(id, &b"whole"[..], 5, |_| ()).await.is_err() {
        tokio::task::yield_now().await;
    }
    let names: Vec<_> = std::fs::read_dir(daemon.dir.path().join("data/staging"))
        .unwrap()
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test]
async fn a_deploy_without_an_upload_is_refused_before_it_begins() {
    let daemon = Daemon::start().await;
    let manifest = "[app]\nname = \"app\"\ndomain = \"a.example\"\n".to_owned();
    let request = DeployRequest {
        manifest,
        ..request()
    };
    let error = daemon.client().deploy("app", &request).await.unwrap_err();
    assert!(matches!(error, ClientError::Api(_)), "{error:?}");
}

#[tokio::test]
async fn bad_bodies_are_refused_and_not_quoted() {
    let daemon = Daemon::start().await;
    let patch = |body: &str| {
        format!(
            "PATCH /v1/apps/app/secrets HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for body in [r#"{"set": {"KEY": "hunter2"}"#, r#"{"set": "hunter2"}"#] {
        let answer = daemon.raw(&patch(body)).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("\"invalid\""),
            "{answer}"
        );
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    let mut change = SecretChange::default();
    change.set.insert("KEY".into(), "x".repeat(2 << 20));
    let error = daemon
        .client()
        .change_secrets("app", &change)
        .await
        .unwrap_err();
    assert_eq!(api_code(error), ErrorCode::TooLarge);
}

#[tokio::test]
async fn secrets_are_set_and_listed_by_name() {
    let daemon = Daemon::start().await;
    let mut change = SecretChange::default();
    change.set.insert("KEY".into(), "value".into());
    let names = daemon
        .client()
        .change_secrets("app", &change)
        .await
        .unwrap();
    assert_eq!(names.names, ["KEY"]);
    assert_eq!(daemon.client().secret_names("app").await.unwrap(), names);
}

#[tokio::test]
async fn a_client_of_another_version_is_told_so() {
    let daemon = Daemon::start().await;
    let answer = daemon
        .raw("GET /v1/apps HTTP/1.1\r\nhost: x\r\nvela-protocol: 99\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("\"version\""),
        "{answer}"
    );
    assert!(answer.contains("vela-protocol: 1"), "{answer}");
}

#[tokio::test]
async fn it_stops_when_told_to_though_a_client_is_connected() {
    let mut daemon = Daemon::start().await;
    let client = daemon.client();
    client.version().await.unwrap();
    daemon.stop.take().unwrap().send(()).unwrap();
    (&mut daemon.serving).await.unwrap().unwrap();
    assert!(client.version().await.unwrap_err().is_unreachable());
}

#[tokio::test]
async fn services_are_listed_and_unknown_ones_are_not_found() {
    let daemon = Daemon::start().await;
    let client = daemon.client();
    assert_eq!(client.services().await.unwrap(), []);
    let logs = client.service_logs("../../etc/passwd", 5, false).await;
    assert_eq!(api_code(logs.unwrap_err()), ErrorCode::NotFound);
    let credentials = client.credentials("shop").await.map(|given| given.kinds);
    assert_eq!(api_code(credentials.unwrap_err()), ErrorCode::NotFound);
    let answer = daemon.get("/v1/services").await;
    assert!(answer.ends_with("\r\n\r\n[]\n"), "{answer}");
}
