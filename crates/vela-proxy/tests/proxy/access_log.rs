//! The log of requests, on real files.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use tempfile::TempDir;
use vela_proxy::{AccessLog, Limits, ProxyConfig, Rotation};

use crate::world::{Backend, Client, LONG, World};

struct Logged {
    world: World,
    log: Arc<AccessLog>,
    path: PathBuf,
    _dir: TempDir,
}

impl Logged {
    fn start(rotation: Rotation) -> Logged {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        Logged::to(path, dir, rotation)
    }

    fn to(path: PathBuf, dir: TempDir, rotation: Rotation) -> Logged {
        Logged::with(ProxyConfig::default(), path, dir, rotation)
    }

    fn with(config: ProxyConfig, path: PathBuf, dir: TempDir, rotation: Rotation) -> Logged {
        let log = Arc::new(AccessLog::open(&path, rotation).unwrap());
        let world = World::with(ProxyConfig {
            access_log: Some(Arc::clone(&log)),
            ..config
        });
        Logged {
            world,
            log,
            path,
            _dir: dir,
        }
    }

    /// So many lines, as soon as they are there: a request is logged when its client has its
    /// answer already.
    async fn lines(&self, count: usize) -> Vec<Value> {
        let written = "vela_proxy_access_log_lines_total";
        self.world.metrics_when(written, count as f64).await;
        let lines = read(&self.path);
        assert_eq!(lines.len(), count);
        lines
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_request_is_a_line() {
    let logged = Logged::start(Rotation::default());
    let world = &logged.world;
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    client
        .send(
            b"POST /echo?x=\"1\" HTTP/1.1\r\nHost: A.test:80\r\nContent-Length: 4\r\n\
              User-Agent: agent \"1\"\r\nReferer: http://b.test/\r\n\r\nbody",
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    client.get("/echo").await;
    let [first, second] = &logged.lines(2).await[..] else {
        unreachable!()
    };
    for (field, value) in [
        ("app", "app".into()),
        ("client", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("host", "a.test".into()),
        ("path", "/echo?x=\"1\"".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("outcome", "complete".into()),
        ("bytes_in", 4.into()),
        ("bytes_out", 3.into()),
        ("upstream", backend.addr.to_string().into()),
        ("user_agent", "agent \"1\"".into()),
        ("referer", "http://b.test/".into()),
        ("scheme", "http".into()),
        ("retries", Value::Null),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    let told = format!(
        "x-request-id: {}\r\n",
        first["request_id"].as_str().unwrap()
    );
    assert!(backend.heads()[0].contains(&told), "{first}");
    let milliseconds = |line: &Value, field: &str| line[field].as_f64().unwrap();
    let whole = milliseconds(first, "duration_ms");
    let parts = milliseconds(first, "connect_ms") + milliseconds(first, "response_ms");
    assert!(0.0 < parts && parts <= whole, "{first}");
    // On the same connections, and with nothing of the first.
    assert_eq!(second["connect_ms"], Value::Null);
    assert_eq!(second["user_agent"], Value::Null);
    assert!(milliseconds(second, "response_ms") > 0.0);
}

#[tokio::test]
async fn each_end_of_a_request_has_a_name() {
    let logged = Logged::start(Rotation::default());
    let world = &logged.world;
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut expected = Vec::new();
    let mut line = async |app, path, status, outcome| {
        expected.push((app, path, status, outcome));
        logged.lines(expected.len()).await
    };

    let mut client = world.client().await;
    client
        .send("GET /none HTTP/1.1\r\nHost: b.test\r\n\r\n")
        .await;
    client.answer().await;
    line(None, "/none", 404, "complete").await;

    client
        .send("GET /bad HTTP/1.1\r\nHost: c test\r\n\r\n")
        .await;
    client.rest().await;
    let lines = line(None, "/bad", 400, "complete").await;
    assert_eq!(lines[1]["host"], "c test");

    let mut client = world.client().await;
    client
        .send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    backend.until_requests(1).await;
    drop(client);
    line(Some("app"), "/slow", 499, "client_left").await;

    let mut client = world.client().await;
    client
        .send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    client.read_head().await.unwrap();
    assert_eq!(client.read_exactly(10).await, "5\r\nfirst\r\n");
    drop(client);
    let lines = line(Some("app"), "/stream", 200, "client_left").await;
    assert_eq!(lines[3]["bytes_out"], 5);

    let mut client = world.client().await;
    client
        .send("GET /cut HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    client.rest().await;
    line(Some("app"), "/cut", 200, "upstream_left").await;

    let mut client = world.client().await;
    client
        .send("GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc")
        .await;
    client.answer().await;
    assert_eq!(client.read_exactly(9).await, "hello abc");
    // A tunnel is logged at its end.
    assert!(logged.log.flush(LONG));
    assert_eq!(read(&logged.path).len(), 5);
    drop(client);
    let lines = line(Some("app"), "/socket", 101, "complete").await;
    assert_eq!(
        (&lines[5]["bytes_in"], &lines[5]["bytes_out"]),
        (&3.into(), &9.into())
    );

    for (line, (app, path, status, outcome)) in lines.iter().zip(&expected) {
        assert_eq!(line["app"].as_str(), *app, "{line}");
        assert_eq!(line["path"], *path, "{line}");
        assert_eq!(line["status"], *status, "{line}");
        assert_eq!(line["outcome"], *outcome, "{line}");
    }
}

/// By the name of the client, not that of the proxy before this one.
#[tokio::test]
async fn what_is_refused_is_known_by_who_asked_and_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let config = ProxyConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        client_ip_header: Some("Client-IP".parse().unwrap()),
        limits: Limits {
            body_bytes: 3,
            target_bytes: 300,
            ..Limits::default()
        },
        ..ProxyConfig::default()
    };
    let path = dir.path().join("access.log");
    let logged = Logged::with(config, path, dir, Rotation::default());
    let backend = Backend::start("one").await;
    drop(logged.world.route(&[backend.addr]).await);
    let long = format!("/{}", "x".repeat(310));
    let said = "Client-IP: 192.0.2.7\r\nX-Request-ID: abc\r\n";
    for (line, rest, status) in [
        (
            "POST / HTTP/1.1",
            "Host: a.test\r\nContent-Length: 4\r\n",
            413,
        ),
        (
            "POST / HTTP/1.1",
            "Host: a.test\r\nContent-Length: x\r\n",
            400,
        ),
        ("POST / HTTP/1.1", "Host: a.test\r\nExpect: x\r\n", 417),
        ("GET / HTTP/1.1", "Host: a test\r\n", 400),
        ("GET / HTTP/1.1", "", 400),
        ("CONNECT a.test:1 HTTP/1.1", "Host: a.test\r\n", 501),
        (&format!("GET {long} HTTP/1.1"), "Host: a.test\r\n", 414),
    ] {
        let mut client = logged.world.client().await;
        client.send(format!("{line}\r\n{said}{rest}\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{line} {rest}");
    }
    let mut lines = logged.lines(7).await;
    for line in &lines {
        assert_eq!(line["client"], "192.0.2.7", "{line}");
        assert_eq!(line["request_id"], "abc", "{line}");
    }
    // What cannot be read says nothing. Each has an id all the same.
    for asked in ["GET / HTTP/1.1\r\nClient-IP : 6\r\n\r\n", "\0", "GET /\n"] {
        let mut client = logged.world.client().await;
        client.send(asked).await;
        assert_eq!(client.answer().await.status, 400, "{asked:?}");
    }
    lines = logged.lines(10).await;
    for line in &lines[7..] {
        assert_eq!(line["client"], "127.0.0.1", "{line}");
        let id = line["request_id"].as_str().unwrap();
        assert_eq!(id.len(), 32, "{line}");
    }
    assert!(backend.heads().is_empty());
}

#[tokio::test]
async fn no_byte_of_a_request_breaks_its_line() {
    let logged = Logged::start(Rotation::default());
    let mut sent = 0;
    for byte in 0..=u8::MAX {
        let in_words = [
            b"G\"",
            &[byte, b' ', b'/', byte][..],
            b"\\ HTTP/1.1\r\n\r\n",
        ]
        .concat();
        let in_values = ["Host: b.test", "User-Agent: \\", "Referer: {\"}"]
            .map(|field| [field.as_bytes(), &[byte], b"\"\r\n"].concat());
        let in_values = [b"GET / HTTP/1.1\r\n", &in_values.concat()[..], b"\r\n"].concat();
        for head in [in_words, in_values] {
            let mut client = logged.world.client().await;
            client.send(&head).await;
            let status = client.answer().await.status;
            assert!([400, 404].contains(&status), "{}", head.escape_ascii());
            sent += 1;
        }
    }
    for line in logged.lines(sent).await {
        assert!(
            line["time"].is_string() && line["status"].is_u64(),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_request_that_a_shutdown_breaks_off_is_logged() {
    let Logged {
        world,
        log,
        path,
        _dir,
    } = Logged::start(Rotation::default());
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    client.get("/").await;
    client
        .send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    backend.until_requests(2).await;
    assert_eq!(
        world.serving.shutdown(Duration::from_millis(50)).await.left,
        1
    );
    // The last one that has the log waits for its lines.
    drop(world.proxy);
    drop(log);
    let lines = read(&path);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1]["outcome"], "ended_by_proxy");
    assert_eq!(lines[1]["status"], 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_loses_no_line_and_tears_none() {
    let rotation = Rotation {
        max_size: 16 * 1024,
        keep: 100,
    };
    let logged = Logged::start(rotation);
    let world = &logged.world;
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let load: Vec<_> = (0..4)
        .map(|number| {
            let addr = world.addr;
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                for round in 0..300 {
                    let path = format!("/{number}-{round}");
                    assert_eq!(client.get(&path).await.status, 200);
                }
            })
        })
        .collect();
    for one in load {
        one.await.unwrap();
    }
    let written = "vela_proxy_access_log_lines_total";
    let metrics = world.metrics_when(written, 1200.0).await;
    let dropped = "vela_proxy_access_log_dropped_total";
    assert_eq!(metrics.value(dropped), Some(0.0));
    let files: Vec<_> = fs::read_dir(logged.path.parent().unwrap())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert!(files.len() > 10, "{files:?}");
    let mut paths = Vec::new();
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() <= rotation.max_size);
        let lines = read(file);
        paths.extend(lines.iter().map(|line| line["path"].to_string()));
    }
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 1200);
}

#[tokio::test]
async fn a_log_that_takes_nothing_delays_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Nobody reads it for now.
    let pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let logged = Logged::to(path, dir, Rotation::default());
    let world = &logged.world;
    let backend = Backend::start("one").await;
    drop(world.route(&[backend.addr]).await);
    let mut client = world.client().await;
    let long = "x".repeat(4000);
    let mut sent = 0;
    while logged.log.dropped() == 0 {
        for _ in 0..50 {
            let path = format!("/{sent}-{long}");
            assert_eq!(client.get(&path).await.status, 200);
            sent += 1;
        }
        assert!(sent < 10_000, "nothing is dropped");
    }
    assert!(!logged.log.flush(Duration::from_millis(10)));

    // Read, it gets what was kept, whole and in order.
    let log = Arc::clone(&logged.log);
    let reading = std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe).lines();
        let mut next = move || -> Value {
            let line = lines.next().unwrap().unwrap();
            serde_json::from_str(&line).unwrap()
        };
        let mut kept = 0;
        loop {
            let line = next();
            let path = line["path"].as_str().unwrap();
            if path == "/last" {
                return kept;
            }
            assert!(path.starts_with(&format!("/{kept}-")), "{kept}: {line}");
            kept += 1;
        }
    });
    let dropped = tokio::task::spawn_blocking(move || {
        assert!(log.flush(LONG));
        log.dropped()
    });
    let dropped = dropped.await.unwrap();
    assert_eq!(client.get("/last").await.status, 200);
    let kept: u64 = tokio::task::spawn_blocking(|| reading.join().unwrap())
        .await
        .unwrap();
    assert_eq!(kept + dropped, sent);
}

#[tokio::test]
async fn a_full_disk_fails_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let logged = Logged::to("/dev/full".into(), dir, Rotation::default());
    let mut client = logged.world.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 404);
    }
    let dropped = "vela_proxy_access_log_dropped_total";
    let metrics = logged.world.metrics_when(dropped, 20.0).await;
    let written = "vela_proxy_access_log_lines_total";
    assert_eq!(metrics.value(written), Some(0.0));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = AccessLog::open(dir.path(), Rotation::default()).unwrap_err();
    assert!(
        error.to_string().contains(&*dir.path().to_string_lossy()),
        "{error}"
    );
    assert!(error.hint().is_some(), "{error:?}");
}
