//! `Expect: 100-continue` (RFC 9110, 10.1.1): the app says whether it wants a body.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use vela_proxy::{ProxyConfig, Router, Timeouts, Upstream};

use crate::world::{Backend, Client, LONG, World, spec};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A request with such a method that waits with its body of four bytes.
fn waiting(method: &str) -> String {
    format!(
        "{method} / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    )
}

/// An upstream that is the test itself.
struct App {
    listener: TcpListener,
    kept: Option<TcpStream>,
}

impl App {
    async fn of(world: &World) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        drop(world.route(&[listener.local_addr().unwrap()]).await);
        let kept = None;
        App { listener, kept }
    }

    /// The next request's connection, and its head, which nothing comes behind.
    async fn next(&mut self) -> (TcpStream, String) {
        let next = timeout(LONG, self.next_of_any());
        next.await.expect("a request in time")
    }

    async fn next_of_any(&mut self) -> (TcpStream, String) {
        // On a slow machine a kept one is too old for what cannot be repeated.
        let mut socket = match self.kept.take() {
            Some(kept) => tokio::select! {
                readable = kept.readable() => readable.map(|()| kept),
                accepted = self.listener.accept() => accepted.map(|(other, _)| other),
            },
            None => self.listener.accept().await.map(|(socket, _)| socket),
        }
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = socket.read_buf(&mut head).await.unwrap();
            assert!(read > 0, "{}", head.escape_ascii());
        }
        let head = String::from_utf8(head).unwrap();
        assert_eq!(head.matches("\r\n\r\n").count(), 1, "{head}");
        (socket, head)
    }

    /// Serves a request of the client's, and keeps its connection.
    async fn serve(&mut self, client: &mut Client) {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let (mut socket, _) = self.next().await;
        socket.write_all(DONE.as_bytes()).await.unwrap();
        assert_eq!(client.answer().await.body, "ok");
        self.kept = Some(socket);
    }
}

fn world() -> World {
    World::with(ProxyConfig {
        timeouts: Timeouts {
            // What is kept is there however long it takes.
            upstream_idle: 10 * LONG,
            ..Timeouts::default()
        },
        ..ProxyConfig::default()
    })
}

async fn ends(socket: &mut TcpStream) {
    let read = timeout(LONG, socket.read_u8()).await.expect("an end");
    assert!(read.is_err(), "{read:?}");
}

async fn until_nothing_is_open(world: &World) {
    world
        .until("nothing is open", |stats| {
            (stats.in_flight, stats.connections) == (0, 0)
        })
        .await;
}

#[tokio::test]
async fn the_apps_100_is_the_clients_and_comes_once() {
    let world = world();
    let mut app = App::of(&world).await;
    let mut client = world.client().await;
    for more in ["", CONTINUE] {
        client.send(waiting("POST")).await;
        let (mut socket, head) = app.next().await;
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        // Some say more with it, and some say it again.
        let asking = format!("HTTP/1.1 100 Go on\r\nServer: app\r\n\r\n{more}");
        socket.write_all(asking.as_bytes()).await.unwrap();
        assert_eq!(client.read_head().await.unwrap(), CONTINUE);
        client.send("body").await;
        let mut body = [0; 4];
        socket.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"body");
        let done = format!("{more}{DONE}");
        socket.write_all(done.as_bytes()).await.unwrap();
        assert_eq!(client.answer().await.status, 200);
        app.kept = Some(socket);
        app.serve(&mut client).await;
    }
}

/// A body that comes behind its head all the same is no request.
#[tokio::test]
async fn an_app_refuses_a_body_that_it_has_not_seen() {
    let world = world();
    let mut app = App::of(&world).await;
    for (is_kept, sent) in [(false, ""), (true, ""), (true, "GET ")] {
        let mut client = world.client().await;
        if is_kept {
            app.serve(&mut client).await;
        }
        client.send(waiting("POST")).await;
        let (mut socket, _) = app.next().await;
        let refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
        socket.write_all(refusal).await.unwrap();
        let answer = client.answer().await;
        assert_eq!((answer.status, &answer.body[..]), (413, "no"));
        assert_eq!(answer.header("connection"), Some("close"));
        client.try_send(sent.as_bytes()).await;
        // Nothing of the body, and no other request, comes over that connection.
        ends(&mut socket).await;
        assert_eq!(client.rest().await, "");
    }
    until_nothing_is_open(&world).await;
    assert_eq!(world.proxy.stats().upstream_errors, 0);
}

#[tokio::test]
async fn a_body_that_is_held_is_sent_to_who_takes_the_request() {
    let world = world();
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let backend = Backend::start("one").await;
    let mut spec = spec("app", "a.test", &[reserved.local_addr().unwrap()]);
    spec.upstreams.push(Upstream {
        weight: 0,
        ..Upstream::new(backend.addr)
    });
    drop(world.proxy.apply(spec).await.unwrap());
    let mut client = world.client().await;
    client.send(waiting("POST").replace(" / ", " /echo ")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("body").await;
    assert_eq!(client.answer().await.body, "body");
    assert_eq!(world.ejected().len(), 1);

    let mut app = App::of(&world).await;
    loop {
        app.serve(&mut client).await;
        let kept = app.kept.as_ref().map(|kept| kept.peer_addr().unwrap());
        client.send(waiting("PUT")).await;
        // Lost with the head: it may be just that the app closes what is unused.
        let (lost, _) = app.next().await;
        if Some(lost.peer_addr().unwrap()) == kept {
            break;
        }
        drop(lost);
        assert_eq!(client.answer().await.status, 502);
        client = world.client().await;
    }
    let (mut socket, head) = app.next().await;
    assert!(head.starts_with("PUT / "), "{head}");
    socket.write_all(CONTINUE.as_bytes()).await.unwrap();
    assert_eq!(client.read_head().await.unwrap(), CONTINUE);
    client.send("body").await;
    socket.read_exact(&mut [0; 4]).await.unwrap();
    // The body, however, is sent once.
    drop(socket);
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn a_client_that_leaves_instead_of_sending_is_noticed() {
    let world = world();
    let mut app = App::of(&world).await;
    let mut client = world.client().await;
    client.send(waiting("POST")).await;
    let (mut socket, _) = app.next().await;
    drop(client);
    ends(&mut socket).await;
    until_nothing_is_open(&world).await;
}

/// An old client does not know what it is told, and one without a body has nothing to wait with.
#[tokio::test]
async fn no_app_is_asked_for_who_cannot_wait() {
    let world = world();
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    for (line, rest) in [
        ("GET / HTTP/1.1", "\r\n"),
        ("POST / HTTP/1.0", "Content-Length: 1\r\n\r\nx"),
    ] {
        let mut client = world.client().await;
        client
            .send(format!(
                "{line}\r\nHost: a.test\r\nExpect: 100-continue\r\n{rest}"
            ))
            .await;
        assert_eq!(client.answer().await.body, "one");
        assert!(!backend.last_head().contains("expect"));
    }
}
