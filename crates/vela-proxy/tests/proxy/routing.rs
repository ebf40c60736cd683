//! Which requests go where.

use std::time::Duration;

use crate::world::{Backend, LONG, World, spec};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vela_proxy::{Maintenance, ProxyConfig, RouteOptions, RouteSpec, Router, Upstream};

impl World {
    /// Adds a route, and gives the tag that each of its answers has.
    async fn add(&self, spec: RouteSpec) {
        drop(self.proxy.apply(spec).await.unwrap());
    }

    async fn ask(&self, host: &str, target: &str) -> crate::world::Answer {
        let mut client = self.client().await;
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        client.send(request).await;
        client.answer().await
    }
}

#[tokio::test]
async fn hosts_and_paths_select_the_app() {
    let world = World::start();
    let mut backends = Vec::new();
    for (id, host, path, strip_path) in [
        ("shop", "a.test", "/", false),
        ("api", "a.test", "/api", true),
        ("tenants", "*.a.test", "/", false),
    ] {
        let backend = Backend::start(id).await;
        let spec = RouteSpec {
            path: path.parse().unwrap(),
            options: RouteOptions {
                strip_path,
                ..RouteOptions::default()
            },
            ..spec(id, host, &[backend.addr])
        };
        world.add(spec).await;
        backends.push(backend);
    }
    for (host, target, id, line) in [
        ("a.test", "/x?y=/api", "shop", "GET /x?y=/api "),
        ("A.Test.:80", "/apis", "shop", "GET /apis "),
        ("a.test", "/api/x%2Fy?z", "api", "GET /x%2Fy?z "),
        ("a.test", "/api", "api", "GET / "),
        ("a.test", "/api?x", "api", "GET /?x "),
        ("b.a.test", "/api/x", "tenants", "GET /api/x "),
    ] {
        assert_eq!(world.ask(host, target).await.body, id, "{host}{target}");
        let backend = &backends[["shop", "api", "tenants"]
            .iter()
            .position(|one| *one == id)
            .unwrap()];
        let head = backend.last_head();
        assert!(head.starts_with(line), "{head}");
        let prefix = head.contains("x-forwarded-prefix: /api\r\n");
        assert_eq!(prefix, id == "api", "{head}");
    }
    for host in ["c.b.a.test", "test", ".a.test"] {
        assert!(world.ask(host, "/").await.status >= 400, "{host}");
    }
}

#[tokio::test]
async fn other_hosts_are_sent_to_the_canonical_one() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let route = spec("app", "a.test", &[backend.addr]);
    let mut hosts = route.hosts.clone();
    hosts.push("*.a.test".parse().unwrap());
    world
        .add(RouteSpec {
            hosts,
            options: RouteOptions {
                canonical: Some("a.test".parse().unwrap()),
                ..RouteOptions::default()
            },
            ..route
        })
        .await;
    assert_eq!(world.ask("a.test:81", "/").await.body, "one");
    let mut client = world.client().await;
    for _ in 0..2 {
        client
            .send("POST /x/../y?z HTTP/1.1\r\nHost: WWW.a.test:81\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some("http://a.test:81/x/../y?z"));
    }
    assert_eq!(backend.heads().len(), 1);
}

#[tokio::test]
async fn a_route_in_maintenance_serves_those_who_look_after_it() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let maintained = |allow: &str| {
        let allow = vec![allow.parse().unwrap()];
        let message = Some("back at noon".to_owned());
        RouteSpec {
            options: RouteOptions {
                maintenance: Some(Maintenance { message, allow }),
                ..RouteOptions::default()
            },
            ..spec("app", "a.test", &[backend.addr])
        }
    };
    world.add(maintained("192.0.2.0/24")).await;
    let answer = world.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("back at noon"), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    world.add(maintained("127.0.0.0/8")).await;
    assert_eq!(world.get("/").await.body, "one");
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_counts() {
    let world = World::with(ProxyConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    let allow = vec!["192.0.2.0/24".parse().unwrap()];
    let options = RouteOptions {
        maintenance: Some(Maintenance {
            message: None,
            allow,
        }),
        canonical: Some("a.test".parse().unwrap()),
        ..RouteOptions::default()
    };
    let route = spec("app", "a.test", &[backend.addr]);
    let mut hosts = route.hosts.clone();
    hosts.push("www.a.test".parse().unwrap());
    world
        .add(RouteSpec {
            hosts,
            options,
            ..route
        })
        .await;
    let mut client = world.client().await;
    for (fields, status) in [
        ("X-Forwarded-For: 192.0.2.1\r\n", 200),
        ("X-Forwarded-For: 192.0.2.1, 6.6.6.6\r\n", 503),
        ("Forwarded: for=192.0.2.1\r\n", 200),
        ("", 503),
    ] {
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
            .await;
        assert_eq!(client.answer().await.status, status, "{fields}");
    }
    client
        .send("GET /x HTTP/1.1\r\nHost: www.a.test\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.header("location"), Some("https://a.test/x"));
}

#[tokio::test]
async fn each_route_has_its_own_limits() {
    let world = World::start();
    let backend = Backend::start("one").await;
    let options = RouteOptions {
        max_body: Some(4),
        ..RouteOptions::default()
    };
    world
        .add(RouteSpec {
            options,
            ..spec("app", "a.test", &[backend.addr])
        })
        .await;
    world.add(spec("other", "b.test", &[backend.addr])).await;
    let options = RouteOptions {
        response_timeout: Some(Duration::from_millis(50)),
        ..RouteOptions::default()
    };
    world
        .add(RouteSpec {
            options,
            ..spec("hasty", "c.test", &[backend.addr])
        })
        .await;
    for (host, framing, body, status) in [
        ("a.test", "Content-Length: 4", "body", 200),
        ("a.test", "Content-Length: 5", "bodyx", 413),
        (
            "a.test",
            "Transfer-Encoding: chunked",
            "5\r\nbodyx\r\n0\r\n\r\n",
            413,
        ),
        ("b.test", "Content-Length: 5", "bodyx", 200),
    ] {
        let mut client = world.client().await;
        let head = format!("POST /echo HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n{body}");
        client.send(head).await;
        assert_eq!(client.answer().await.status, status, "{host} {framing}");
    }
    assert_eq!(world.ask("c.test", "/slow").await.status, 504);
}

/// The proxy in front has stripped something, too.
#[tokio::test]
async fn what_was_stripped_before_is_told_with_what_is_stripped_here() {
    let world = World::with(ProxyConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..ProxyConfig::default()
    });
    let backend = Backend::start("one").await;
    for (own, given, told) in [
        ("/api", "", "/api"),
        ("/api", "X-Forwarded-Prefix: /outer\r\n", "/outer/api"),
        ("/api", "x-forwarded-prefix: /outer/\r\n", "/outer/api"),
        ("/api", "x-forwarded-prefix: /\r\n", "/api"),
        // Who knows which.
        (
            "/api",
            "x-forwarded-prefix: /a\r\nx-forwarded-prefix: /b\r\n",
            "/api",
        ),
        ("/", "x-forwarded-prefix: /outer\r\n", "/outer"),
        ("/", "", "/"),
    ] {
        let mut spec = spec("app", "a.test", &[backend.addr]);
        spec.path = own.parse().unwrap();
        spec.options.strip_path = true;
        world.add(spec).await;
        let mut client = world.client().await;
        client
            .send(format!("GET /api HTTP/1.1\r\nHost: a.test\r\n{given}\r\n"))
            .await;
        assert_eq!(client.answer().await.status, 200);
        let head = backend.last_head().to_ascii_lowercase();
        let lines: Vec<_> = head
            .lines()
            .filter_map(|line| line.strip_prefix("x-forwarded-prefix: "))
            .collect();
        assert_eq!(lines, [told], "{own} {given}");
    }
}

#[tokio::test]
async fn what_is_asked_of_the_server_as_a_whole_has_no_path() {
    let world = World::start();
    let backend = Backend::start("one").await;
    for (path, strip_path, status) in [("/", false, 200), ("/", true, 200), ("/api", true, 404)] {
        let mut spec = spec("app", "a.test", &[backend.addr]);
        spec.path = path.parse().unwrap();
        spec.options.strip_path = strip_path;
        world.add(spec).await;
        for target in ["*", "http://a.test"] {
            let mut client = world.client().await;
            client
                .send(format!("OPTIONS {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
                .await;
            assert_eq!(client.answer().await.status, status, "{path} {target}");
            let head = backend.last_head();
            assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
        }
    }
}

/// Where TCP would wait for room in the queue of a listener, a Unix socket says that there is none.
#[tokio::test]
async fn an_app_whose_queue_is_full_is_waited_for() {
    let world = World::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let addr = SockAddr::unix(&path).unwrap();
    listener.bind(&addr).unwrap();
    listener.listen(1).unwrap();
    let mut queue = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&addr).is_err() {
            break;
        }
        queue.push(socket);
    }
    let hosts = vec!["a.test".parse().unwrap()];
    let upstreams = vec![Upstream::new(path.as_path())];
    world.add(RouteSpec::new("app", hosts, upstreams)).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let moment = Duration::from_millis(100);
    let early = tokio::time::timeout(moment, client.read_head()).await;
    assert!(early.is_err(), "{early:?}");
    let serve = async {
        listener.set_nonblocking(true).unwrap();
        let listener = std::os::unix::net::UnixListener::from(listener);
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        for _ in 0..queue.len() {
            listener.accept().await.unwrap();
        }
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        socket.write_all(answer).await.unwrap();
    };
    let both = async { tokio::join!(client.answer(), serve) };
    let (answer, ()) = tokio::time::timeout(LONG, both).await.unwrap();
    assert_eq!(answer.body, "ok");
}

/// A link that an app put in the place of its socket, say.
#[tokio::test]
async fn a_unix_socket_of_another_user_than_the_one_named_gets_nothing() {
    let world = World::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let own = rustix::process::geteuid().as_raw();
    let serve = tokio::spawn(async move {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let mut heads = 0;
        while heads < 1 {
            let (mut socket, _) = listener.accept().await.unwrap();
            if socket.read(&mut [0; 4096]).await.unwrap() > 0 {
                heads += 1;
                socket.write_all(answer).await.unwrap();
            }
        }
    });
    for (owner, status) in [(own + 1, 502), (own, 200)] {
        let upstream = Upstream::new(path.as_path()).owned_by(owner);
        let hosts = vec!["a.test".parse().unwrap()];
        world
            .add(RouteSpec::new("app", hosts, vec![upstream]))
            .await;
        let answer = tokio::time::timeout(LONG, async { world.client().await.get("/").await });
        assert_eq!(answer.await.unwrap().status, status);
    }
    tokio::time::timeout(LONG, serve).await.unwrap().unwrap();
}

#[tokio::test]
async fn apps_listen_on_unix_sockets_and_over_ipv6() {
    let world = World::start();
    let dir = std::env::temp_dir().join(format!("vela-proxy-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("app.sock");
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    let six = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let six_addr = six.local_addr().unwrap();
    for upstream in [Upstream::new(path.as_path()), Upstream::new(six_addr)] {
        world
            .add(RouteSpec::new(
                "app",
                vec!["a.test".parse().unwrap()],
                vec![upstream],
            ))
            .await;
        let is_unix = world.proxy.stats().requests == 0;
        let serve = async {
            let mut head = [0; 4096];
            // Two requests come over one connection.
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if is_unix {
                let (mut socket, _) = unix.accept().await.unwrap();
                for _ in 0..2 {
                    assert!(socket.read(&mut head).await.unwrap() > 0);
                    socket.write_all(answer).await.unwrap();
                }
            } else {
                let (mut socket, _) = six.accept().await.unwrap();
                for _ in 0..2 {
                    assert!(socket.read(&mut head).await.unwrap() > 0);
                    socket.write_all(answer).await.unwrap();
                }
            }
        };
        let ask = async {
            let mut client = world.client().await;
            for _ in 0..2 {
                assert_eq!(client.get("/").await.body, "ok");
            }
        };
        tokio::time::timeout(LONG, async { tokio::join!(serve, ask) })
            .await
            .unwrap();
    }
    std::fs::remove_dir_all(dir).unwrap();
    // Nothing listens there any more.
    drop(unix);
    let gone = Upstream::new(path.as_path());
    world
        .add(RouteSpec::new(
            "app",
            vec!["a.test".parse().unwrap()],
            vec![gone],
        ))
        .await;
    assert_eq!(world.get("/").await.status, 502);
}
