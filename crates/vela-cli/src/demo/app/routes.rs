use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{AppArgs, stopped};
use crate::demo::websocket::{self, Message, Role, WebSocket};

/// The length of the body of `GET /` and of `GET /slow`, in bytes.
pub const BODY_LENGTH: usize = 1024;

/// Between two ticks of a WebSocket and two events of an event stream.
const TICK: Duration = Duration::from_millis(100);

/// How long a peer may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the app answers.
#[derive(Debug, Clone)]
pub(super) struct Routes(Arc<State>);

#[derive(Debug)]
struct State {
    environment: BTreeMap<String, String>,
    release: HeaderValue,
    instance: HeaderValue,
    /// The release's name, filled up to [`BODY_LENGTH`].
    body: Bytes,
    health: Health,
    stopping: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

#[derive(Debug, Clone, Copy)]
enum Health {
    Status(StatusCode),
    Hang,
}

impl Routes {
    pub(super) fn new(
        args: &AppArgs,
        environment: BTreeMap<String, String>,
        stopping: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> Routes {
        let header = |name: &str| {
            let value = environment.get(name).map_or("none", String::as_str);
            HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("invalid"))
        };
        let (release, instance) = (header("VELA_RELEASE"), header("VELA_INSTANCE"));
        let mut body = release.as_bytes().to_vec();
        body.push(b'\n');
        body.resize(BODY_LENGTH - 1, b'.');
        body.push(b'\n');
        let status = args.health_status.map(StatusCode::from_u16);
        let health = match (args.health_hang, status) {
            (true, _) => Health::Hang,
            (false, Some(Ok(status))) => Health::Status(status),
            (false, Some(Err(_))) => Health::Status(StatusCode::INTERNAL_SERVER_ERROR),
            (false, None) => Health::Status(StatusCode::OK),
        };
        Routes(Arc::new(State {
            environment,
            release,
            instance,
            body: body.into(),
            health,
            stopping,
            alive,
        }))
    }

    pub(super) fn release(&self) -> &str {
        self.0.release.to_str().unwrap_or_default()
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let query = request.uri().query();
        let mut response = match request.uri().path() {
            "/" => page(StatusCode::OK, self.0.body.clone()),
            "/health" => self.health().await,
            "/slow" => {
                sleep(ms(query, 2000)).await;
                page(StatusCode::OK, self.0.body.clone())
            }
            "/sse" => self.events(ms(query, 1000)),
            "/ws" => self.upgrade(request),
            "/env" => self.environment(),
            _ => page(StatusCode::NOT_FOUND, "no such page\n".into()),
        };
        let headers = response.headers_mut();
        headers.insert("x-release", self.0.release.clone());
        headers.insert("x-instance", self.0.instance.clone());
        response
    }

    async fn health(&self) -> Response<Body> {
        match self.0.health {
            Health::Status(StatusCode::OK) => page(StatusCode::OK, "healthy\n".into()),
            Health::Status(status) => page(status, "not healthy: told to say so\n".into()),
            Health::Hang => std::future::pending().await,
        }
    }

    fn environment(&self) -> Response<Body> {
        let json = serde_json::json!(self.0.environment).to_string();
        let mut response = page(StatusCode::OK, json.into());
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    /// An event every [`TICK`] for as long as was asked for, or until the app is told to stop.
    fn events(&self, length: Duration) -> Response<Body> {
        let frames = ticks(length, self.0.stopping.clone()).map(|number| {
            let event = format!("id: {number}\ndata: tick\n\n");
            Ok(Frame::data(Bytes::from(event)))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn upgrade(&self, mut request: Request<Incoming>) -> Response<Body> {
        let upgrade = request.headers().get(UPGRADE);
        let wanted = upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY).filter(|_| wanted) else {
            return page(
                StatusCode::UPGRADE_REQUIRED,
                "a WebSocket lives here\n".into(),
            );
        };
        let accept = HeaderValue::try_from(websocket::accept_key(key.as_bytes()))
            .expect("base64 is visible ASCII");
        let upgraded = hyper::upgrade::on(&mut request);
        let (stopping, alive) = (self.0.stopping.clone(), self.0.alive.clone());
        tokio::spawn(async move {
            if let Ok(upgraded) = upgraded.await {
                let socket = WebSocket::new(TokioIo::new(upgraded), Role::Server);
                // A peer that goes away without a close ends its own conversation only.
                drop(converse(socket, stopping).await);
            }
            drop(alive);
        });
        let mut response = page(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// Echoes what comes, ticks, and says goodbye with 1001 when the app is told to stop.
async fn converse<S>(
    mut socket: WebSocket<S>,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = 0u64;
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => break,
            _ = tick.tick() => {
                socket.send(&Message::Text(format!("tick {number}").into())).await?;
                number += 1;
            }
            message = socket.receive() => match message? {
                Some(Message::Ping(payload)) => socket.send(&Message::Pong(payload)).await?,
                Some(Message::Pong(_)) => {}
                Some(Message::Close(code)) => {
                    socket.send(&Message::Close(code)).await?;
                    return socket.shutdown().await;
                }
                Some(echo) => socket.send(&echo).await?,
                None => return Ok(()),
            },
        }
    }
    let goodbye = Message::Close(Some(websocket::GOING_AWAY));
    socket.send(&goodbye).await?;
    // The peer answers with a close of its own; reading up to it keeps a reset from overtaking ours.
    let answered = async {
        while !matches!(socket.receive().await?, None | Some(Message::Close(_))) {}
        std::io::Result::Ok(())
    };
    timeout(CLOSE_TIMEOUT, answered).await.unwrap_or(Ok(()))?;
    socket.shutdown().await
}

fn ticks(length: Duration, stopping: watch::Receiver<bool>) -> impl Stream<Item = u64> + Send {
    let end = Instant::now() + length;
    futures::stream::unfold((0u64, stopping), move |(number, mut stopping)| async move {
        if number > 0 {
            tokio::select! {
                () = stopped(&mut stopping) => return None,
                () = sleep(TICK) => {}
            }
        }
        (Instant::now() < end).then_some((number, (number + 1, stopping)))
    })
}

fn page(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// The query's `ms`, the one parameter that the app knows.
fn ms(query: Option<&str>, default: u64) -> Duration {
    let mut pairs = query.unwrap_or_default().split('&');
    let ms = pairs.find_map(|pair| pair.strip_prefix("ms="));
    Duration::from_millis(ms.and_then(|ms| ms.parse().ok()).unwrap_or(default))
}
