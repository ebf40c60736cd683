//! WebSockets (RFC 8441) and event streams.

use std::time::Duration;

use bytes::Bytes;
use h2::client::Builder;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use vela_proxy::{DrainLimits, Router, StreamDrain};

use crate::LONG;
use crate::backend::Backend;
use crate::client::{Client, answer, get, next, send_all};
use crate::frames::{begun, block};
use crate::raw::{Raw, Reaction};
use crate::recorder::Recorder;
use crate::world::{World, saying, upstream};

const HOUR: Duration = Duration::from_secs(3600);

fn connect(protocol: &str, path: &str) -> Request<()> {
    Request::connect(format!("https://a.test{path}"))
        .extension(Protocol::from(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "its-own")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap()
}

/// A client that has heard that tunnels may be asked for.
async fn client(world: &World) -> Client {
    let client = Client::with(&world.door, Builder::new().enable_push(false)).await;
    crate::world::until("the setting", || {
        client.requests.is_extended_connect_protocol_enabled()
    })
    .await;
    client
}

async fn open(client: &mut Client) -> (Response<()>, RecvStream, SendStream<Bytes>) {
    let (response, sending) = client.send(connect("websocket", "/socket"), false).await;
    let response = tokio::time::timeout(LONG, response).await.unwrap().unwrap();
    let (head, body) = response.into_parts();
    (Response::from_parts(head, ()), body, sending)
}

async fn read(body: &mut RecvStream, wanted: &str) {
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        got.extend(next(body).await.expect("more"));
    }
    assert_eq!(got, wanted.as_bytes());
}

#[tokio::test]
async fn a_websocket_goes_through_a_stream() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut client = client(&world).await;
    let (head, mut body, mut sending) = open(&mut client).await;
    assert_eq!(head.status().as_u16(), 200);
    for absent in ["connection", "upgrade", "sec-websocket-accept"] {
        assert!(!head.headers().contains_key(absent), "{head:?}");
    }
    let asked = backend.last_head();
    assert!(
        asked.starts_with("GET /socket HTTP/1.1\r\nhost: a.test\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("connection: upgrade\r\nupgrade: websocket\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("sec-websocket-protocol: chat\r\n"),
        "{asked}"
    );
    assert_eq!(asked.matches("sec-websocket-key: ").count(), 1, "{asked}");
    // 16 bytes, in base64 (RFC 6455, 4.1).
    let key = asked.split("sec-websocket-key: ").nth(1).unwrap();
    let key = key.lines().next().unwrap();
    assert!(
        key.len() == 24 && key.ends_with("==") && key != "its-own",
        "{key}"
    );

    read(&mut body, "hello ").await;
    sending.send_data(Bytes::from("over there"), false).unwrap();
    read(&mut body, "over there").await;
    // Requests go on beside it, and much goes through it.
    assert_eq!(client.get("/").await.body, "ok");
    let much = "x".repeat(1 << 20);
    let there = send_all(&mut sending, Bytes::from(much.clone()));
    let (sent, ()) = tokio::join!(there, read(&mut body, &much));
    sent.unwrap();

    sending.send_data(Bytes::new(), true).unwrap();
    assert_eq!(next(&mut body).await, None, "its own end comes back");
    backend.until_connections(1).await;
}

#[tokio::test]
async fn either_side_may_end_a_tunnel() {
    let world = World::start();
    let (told, mut ended) = mpsc::unbounded_channel();
    // Says what it got in the end. `/first` ends first, `/reset` resets.
    let app = upstream(move |head, mut socket| {
        let told = told.clone();
        async move {
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            socket.get_mut().write_all(switch).await?;
            if head.starts_with("GET /first ") {
                socket.get_mut().write_all(b"bye").await?;
                socket.get_mut().shutdown().await?;
            }
            let mut got = String::new();
            if head.starts_with("GET /reset ") {
                socket.read_u8().await?;
                return socket2::SockRef::from(socket.get_ref()).set_linger(Some(Duration::ZERO));
            }
            let read = socket.read_to_string(&mut got).await;
            told.send((got, read.is_ok())).unwrap();
            Ok(())
        }
    });
    world.route(app.await).await;
    let mut client = client(&world).await;
    let mut ask = async |path: &str| {
        let (response, sending) = client.send(connect("websocket", path), false).await;
        (response.await.unwrap().into_body(), sending)
    };

    let (mut body, mut sending) = ask("/first").await;
    read(&mut body, "bye").await;
    assert_eq!(next(&mut body).await, None);
    sending.send_data(Bytes::from("bye too"), true).unwrap();
    assert_eq!(ended.recv().await.unwrap(), ("bye too".to_owned(), true));

    let (mut body, mut sending) = ask("/second").await;
    sending.send_data(Bytes::from("bye"), true).unwrap();
    assert_eq!(ended.recv().await.unwrap(), ("bye".to_owned(), true));
    assert_eq!(next(&mut body).await, None);

    let (body, mut sending) = ask("/left").await;
    sending.send_reset(h2::Reason::CANCEL);
    drop(body);
    ended.recv().await.unwrap();

    let (mut body, mut sending) = ask("/reset").await;
    sending.send_data(Bytes::from("x"), false).unwrap();
    let cut = body.data().await.expect("no clean end").unwrap_err();
    assert!(cut.is_reset(), "{cut}");
    world
        .until("nothing in flight", |stats| stats.in_flight == 0)
        .await;
}

/// A drain does not wait for tunnels as for requests, and a shutdown ends them as streams.
#[tokio::test]
async fn a_tunnel_is_no_request() {
    let world = World::start();
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    world.route(old.addr).await;
    let mut client = client(&world).await;
    let (_, mut body, mut sending) = open(&mut client).await;
    read(&mut body, "hello ").await;
    let replaced = world.route(new.addr).await.unwrap();
    let limits = DrainLimits {
        requests: LONG,
        streams: StreamDrain::Leave,
    };
    assert_eq!(world.proxy.drain(replaced, limits).await.left, 1);
    sending.send_data(Bytes::from("still"), false).unwrap();
    read(&mut body, "still").await;
    let shutdown = tokio::spawn(world.serving.shutdown(HOUR));
    assert_eq!(next(&mut body).await, None);
    sending.send_data(Bytes::new(), true).unwrap();
    let drained = tokio::time::timeout(LONG, shutdown).await.unwrap();
    assert!(drained.unwrap().is_complete());
}

/// The connection stays, for what else the client has on it.
#[tokio::test]
async fn streams_end_within_their_time() {
    let world = World::start();
    let events = upstream(|_, mut socket| async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
        socket.get_mut().write_all(head).await?;
        socket.read_u8().await.map(|_| ())
    });
    let (old, events) = (Backend::start("old").await, events.await);
    let mut client = client(&world).await;
    let limit = Duration::from_millis(100);

    world.route(old.addr).await;
    let (_, mut body, _sending) = open(&mut client).await;
    read(&mut body, "hello ").await;
    let replaced = world.route(events).await.unwrap();
    // An eighth of it is for the closing.
    let long = Duration::from_secs(4);
    let (drained, end) = tokio::join!(world.proxy.drain(replaced, long.into()), next(&mut body));
    assert_eq!((drained.left, end), (0, None));

    let (response, _) = client.send(get("/events"), true).await;
    let mut body = response.await.unwrap().into_body();
    read(&mut body, "data: 1\n\n").await;
    let replaced = world.route(old.addr).await.unwrap();
    assert_eq!(world.proxy.drain(replaced, limit.into()).await.left, 0);
    let cut = body.data().await.expect("no clean end").unwrap_err();
    assert!(cut.is_reset(), "{cut}");
    let last = answer(client.send(get("/"), true).await.0).await;
    assert_eq!(last.unwrap().body, "old");
}

#[tokio::test]
async fn a_shutdown_ends_events_and_no_request_beside_them() {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut client = client(&world).await;
    let (response, _) = client.send(get("/events"), true).await;
    let mut events = response.await.unwrap().into_body();
    read(&mut events, "data: 1\n\n").await;
    let (slow, _) = client.send(get("/slow"), true).await;
    backend.until_requests(2).await;
    let shutdown = tokio::spawn(world.serving.shutdown(HOUR));
    let cut = tokio::time::timeout(LONG, events.data()).await.unwrap();
    assert!(cut.expect("no clean end").unwrap_err().is_reset());
    assert!(!shutdown.is_finished());
    backend.open_gate(1);
    assert_eq!(answer(slow).await.unwrap().body, "ok");
    let drained = tokio::time::timeout(LONG, shutdown).await.unwrap();
    assert!(drained.unwrap().is_complete());
}

/// RFC 8441, 4: to the client a 2xx would say that there is a tunnel.
#[tokio::test]
async fn what_is_no_tunnel_does_not_look_like_one() {
    let world = World::start();
    for (said, status, body) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhtml", 502, ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", 502, ""),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhtml\r\n0\r\n\r\n",
            502,
            "",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
            403,
            "no",
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            302,
            "",
        ),
    ] {
        world.route(saying(said).await).await;
        let mut client = client(&world).await;
        let (response, _sending) = client.send(connect("websocket", "/"), false).await;
        let answer = tokio::time::timeout(LONG, answer(response))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_str()),
            (status, body),
            "{said}"
        );
    }
}

#[tokio::test]
async fn protocols_are_words_and_plain_tunnels_are_refused() {
    let world = World::start();
    let recorder = Recorder::start().await;
    world.route(recorder.addr).await;
    let asking = |protocol: &str| {
        block(&[
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "https"),
            (":authority", "a.test"),
            (":path", "/"),
        ])
    };
    for protocol in [
        "",
        "x\r\nx-injected: 1",
        "x\r\n\r\nGET /evil HTTP/1.1",
        "x y",
        "x,h2c",
        "\u{e9}",
    ] {
        let mut raw = Raw::connect(&world.door).await;
        raw.send(&begun(1, &asking(protocol))).await;
        assert_eq!(raw.reaction(1).await, Reaction::Reset(1), "{protocol:?}");
        assert!(recorder.take().is_empty(), "{protocol:?}");
    }
    // To HTTP/2 itself there is no tunnel: it would go past the routes.
    let mut raw = Raw::connect(&world.door).await;
    raw.send(&begun(1, &asking("h2c"))).await;
    assert_eq!(raw.reaction(1).await, Reaction::Status(502));
    let heads = recorder.take();
    assert!(!heads[0].contains("upgrade"), "{heads:?}");

    let mut raw = Raw::connect(&world.door).await;
    let plain = block(&[(":method", "CONNECT"), (":authority", "a.test:443")]);
    raw.send(&begun(1, &plain)).await;
    assert_eq!(raw.reaction(1).await, Reaction::Status(501));
    assert!(recorder.take().is_empty());
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let world = World::start();
    let (event, events) = mpsc::unbounded_channel::<String>();
    let events = std::sync::Mutex::new(Some(events));
    let app = upstream(move |_, mut socket| {
        let events = events.lock().unwrap().take();
        async move {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            socket.get_mut().write_all(head).await?;
            let mut events = events.unwrap();
            while let Some(event) = events.recv().await {
                socket.get_mut().write_all(event.as_bytes()).await?;
            }
            Ok(())
        }
    });
    world.route(app.await).await;
    let mut client = world.client().await;
    let (response, mut leaving) = client.send(get("/events"), true).await;
    let mut body = response.await.unwrap().into_body();
    for number in 0..9 {
        let text = format!("data: {number}\n\n");
        event.send(text.clone()).unwrap();
        read(&mut body, &text).await;
    }
    let new = Backend::start("new").await;
    let replaced = world.route(new.addr).await.unwrap();
    let limits = DrainLimits {
        requests: LONG,
        streams: StreamDrain::Leave,
    };
    assert_eq!(world.proxy.drain(replaced, limits).await.left, 1);
    leaving.send_reset(h2::Reason::CANCEL);
    drop(body);
    // The app hears of it by the next event at the latest.
    crate::world::until("the end", || event.send("data\n\n".to_owned()).is_err()).await;
}
