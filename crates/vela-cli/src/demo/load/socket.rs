use std::time::Duration;

use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Fault;
use super::recording::SocketEnd;
use super::report::FailureKind;
use super::worker::Target;
use crate::demo::websocket::{self, Message, Role, WebSocket};

/// The app ticks every 100 ms: a WebSocket that is silent for this long is dead, and so is one that owes an echo for
/// that long. A machine that others use may stand still for seconds.
const SILENCE: Duration = Duration::from_secs(5);

/// An echo is asked for at every so many ticks, unless the last one is on its way.
const ECHO_EVERY: u64 = 10;

/// After a failure; what follows is a new WebSocket, not the same one tried again.
const PAUSE: Duration = Duration::from_millis(100);

type Socket = WebSocket<TokioIo<Upgraded>>;

/// Keeps one WebSocket open until the load ends; each that ends is written down and followed by a new one.
pub(super) async fn keep_open(target: Target) {
    loop {
        let opening = timeout(target.options.timeout, open(&target));
        let opened = tokio::select! {
            biased;
            () = target.ended() => return,
            opened = opening => opened,
        };
        let (mut socket, release) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(fault)) => {
                target.record().socket_failed(fault);
                sleep(PAUSE).await;
                continue;
            }
            Err(_) => {
                let fault = Fault::new(FailureKind::WebSocket, "no answer to the upgrade");
                target.record().socket_failed(fault);
                continue;
            }
        };
        let opened = target.record().now();
        let how = tokio::select! {
            biased;
            () = target.ended() => {
                say_goodbye(&target, &mut socket).await;
                return;
            }
            how = converse(&target, &mut socket) => how,
        };
        let broken = how.is_err();
        {
            let mut record = target.record();
            let ended = record.now();
            record.sockets.push(SocketEnd {
                release,
                opened,
                ended,
                how,
            });
        }
        if broken {
            sleep(PAUSE).await;
        }
    }
}

async fn open(target: &Target) -> Result<(Socket, Option<HeaderValue>), Fault> {
    let fault = |detail: String| Fault::new(FailureKind::WebSocket, detail);
    let key = websocket::random_key();
    let request = Request::get("/ws")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let mut connection = target.connect().await?;
    let response = connection.send(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(fault(format!(
            "status {} to the upgrade",
            response.status()
        )));
    }
    let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| *accept != websocket::accept_key(key.as_bytes())) {
        return Err(fault("a wrong Sec-WebSocket-Accept".into()));
    }
    let release = response.headers().get("x-release").cloned();
    let upgraded = hyper::upgrade::on(response).await;
    let upgraded = upgraded.map_err(|error| fault(error.to_string()))?;
    let socket = WebSocket::new(TokioIo::new(upgraded), Role::Client);
    Ok((socket, release))
}

/// Talks until the other end stops; returns its close code, or what it did in place of a close.
async fn converse(target: &Target, socket: &mut Socket) -> Result<Option<u16>, String> {
    let mut ticks = 0u64;
    let mut pending: Option<(Message, Instant)> = None;
    loop {
        let message = match timeout(SILENCE, socket.receive()).await {
            Err(_) => return Err(format!("silent for {SILENCE:?}")),
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(None)) => return Err("ended without a close".into()),
            Ok(Ok(Some(message))) => message,
        };
        target.record().messages += 1;
        match message {
            Message::Close(code) => {
                // The courtesy of an answer; the conversation is over either way.
                drop(socket.send(&Message::Close(code)).await);
                drop(socket.shutdown().await);
                return Ok(code);
            }
            Message::Text(text) if text.starts_with(b"tick ") => {
                match &pending {
                    Some((_, since)) if since.elapsed() > SILENCE => {
                        return Err("an echo did not come back".into());
                    }
                    None if ticks.is_multiple_of(ECHO_EVERY) => {
                        let echo = Message::Text(format!("echo {ticks}").into());
                        let sent = socket.send(&echo).await;
                        sent.map_err(|error| error.to_string())?;
                        pending = Some((echo, Instant::now()));
                    }
                    _ => {}
                }
                ticks += 1;
            }
            echo if pending.as_ref().is_some_and(|(asked, _)| *asked == echo) => pending = None,
            other => return Err(format!("an unexpected message: {other:?}")),
        }
    }
}

/// Ends the WebSocket as a well-behaved client does, and expects the same of the other end.
async fn say_goodbye(target: &Target, socket: &mut Socket) {
    let goodbye = async {
        let close = Message::Close(Some(websocket::NORMAL));
        socket.send(&close).await.map_err(|e| e.to_string())?;
        loop {
            match socket.receive().await {
                Ok(Some(Message::Close(_))) => return Ok(()),
                Ok(Some(_)) => {}
                Ok(None) => return Err("ended without a close".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let answered = timeout(SILENCE, goodbye).await;
    let answered = answered.unwrap_or_else(|_| Err("no answer to the close".into()));
    if let Err(detail) = answered {
        let fault = Fault::new(FailureKind::WebSocket, detail);
        target.record().socket_failed(fault);
    }
}
