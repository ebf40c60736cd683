use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use vela_protocol::RouterStats;

/// How many requests the proxy sent to an instance twice; nothing if the daemon does not tell.
pub(super) async fn retries(socket: &Path) -> Option<u64> {
    let asked = timeout(Duration::from_secs(5), ask(socket)).await;
    asked.ok().flatten()
}

async fn ask(socket: &Path) -> Option<u64> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    tokio::spawn(connection);
    let request = Request::get("/v1/stats").header(HOST, "vela");
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let response = sender.send_request(request).await.ok()?;
    let status = response.status();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    let stats: RouterStats = serde_json::from_slice(&body).ok()?;
    (status == StatusCode::OK).then_some(stats.retries)
}
