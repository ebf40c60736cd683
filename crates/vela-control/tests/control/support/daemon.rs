use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A daemon that keeps what it is sent, and whose deploys go as the test says.
#[derive(Debug)]
pub(crate) struct StubDaemon {
    dir: TempDir,
    pub(crate) state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) uploads: Mutex<HashMap<String, Vec<u8>>>,
    pub(crate) cut_uploads: watch::Sender<usize>,
    /// Requests as `METHOD path`.
    pub(crate) requests: Mutex<Vec<String>>,
    /// How many events of a deploy exist by now; the sixth is the terminal one.
    pub(crate) events: watch::Sender<u64>,
    /// A stream of events ends after so many, once.
    pub(crate) cut_stream_after: Mutex<Option<u64>>,
}

impl StubDaemon {
    pub(crate) fn start() -> StubDaemon {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("vela.sock")).unwrap();
        let state = Arc::new(State {
            uploads: Mutex::default(),
            cut_uploads: watch::channel(0).0,
            requests: Mutex::default(),
            events: watch::channel(6).0,
            cut_stream_after: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        StubDaemon { dir, state, task }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("vela.sock")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn upload(&self, id: Uuid) -> Option<Vec<u8>> {
        self.state
            .uploads
            .lock()
            .unwrap()
            .get(&id.to_string())
            .cloned()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl Drop for StubDaemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: UnixListener, state: Arc<State>) {
    // Connections end with the daemon.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let connection = hyper::server::conn::http1::Builder::new();
            drop(
                connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

type Answer = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>>;

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Answer, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    state.requests.lock().unwrap().push(line.clone());
    let path = request.uri().path().to_owned();
    let from = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("from="));
    let from: u64 = from.map_or(0, |from| from.parse().unwrap());
    let body = request.into_body().collect().await;
    let (status, value) = match (line.split(' ').next().unwrap(), path.as_str()) {
        (_, "/v1/version") => (
            200,
            json!({"version": "1.2.3", "protocol": 1, "data_dir": "/x", "pid": 1}),
        ),
        ("PUT", _) => {
            let id = path.rsplit('/').next().unwrap().to_owned();
            match body {
                Ok(body) => {
                    let body = body.to_bytes().to_vec();
                    let size = body.len();
                    state.uploads.lock().unwrap().insert(id.clone(), body);
                    (200, json!({"upload": id, "size": size}))
                }
                Err(_) => {
                    state.cut_uploads.send_modify(|count| *count += 1);
                    (400, json!({"code": "invalid", "message": "cut"}))
                }
            }
        }
        (_, "/v1/apps/busy/deploys") => (
            409,
            json!({"code": "busy", "message": "another deploy", "hint": "wait", "state": "`busy` still serves 1"}),
        ),
        ("GET", "/v1/apps/strange") => return Ok(whole(500, "<html>nginx</html>".into())),
        ("POST", _) if path.ends_with("/deploys") => {
            let request: Value = serde_json::from_slice(&body.unwrap().to_bytes()).unwrap();
            let deploy: Uuid = request["deploy"].as_str().unwrap().parse().unwrap();
            return Ok(stream(&state, deploy, 0));
        }
        ("GET", _) if path.ends_with("/events") => {
            let deploy = path.split('/').nth(3).unwrap().parse().unwrap();
            return Ok(stream(&state, deploy, from));
        }
        _ => (
            404,
            json!({"code": "not_found", "message": format!("nothing at {path}")}),
        ),
    };
    Ok(whole(status, value.to_string()))
}

/// Events up to the terminal one, as they come into being.
fn stream(state: &Arc<State>, deploy: Uuid, from: u64) -> Answer {
    let end = state.cut_stream_after.lock().unwrap().take().unwrap_or(6);
    let events = state.events.subscribe();
    let lines = futures::stream::unfold((from, events), move |(seq, mut events)| async move {
        if seq >= end || seq >= 6 {
            return None;
        }
        events.wait_for(|&count| seq < count).await.ok()?;
        let mut event =
            json!({"v": 1, "seq": seq, "time": "2026-03-05T14:30:22Z", "deploy": deploy});
        let kind = match seq {
            5 => json!({"kind": "succeeded", "release": "20260305-143022", "ms": 5}),
            _ => json!({"kind": "warned", "message": format!("event {seq}")}),
        };
        event
            .as_object_mut()
            .unwrap()
            .extend(kind.as_object().unwrap().clone());
        Some((format!("{event}\n"), (seq + 1, events)))
    });
    let frames = lines.map(|line| Ok(Frame::data(Bytes::from(line))));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

fn whole(status: u16, text: String) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(text)).map_err(|never| match never {});
    Response::builder()
        .status(status)
        .body(body.boxed_unsync())
        .unwrap()
}
