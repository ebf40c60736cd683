//! What an operator sets and sees of the proxy: maintenance, pages of one's own, apps that share a host, limits.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vela_tests::{Artifact, Long, Options, Release, World, get};

const HOST: &str = "shop.localhost";
/// Where the app's users ask from, and where those who look after it do.
const USER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const KEEPER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How a WebSocket ends whose server goes away: a close with code 1001.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xE9];
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, its head included.
async fn ask(from: Ipv4Addr, to: SocketAddr, request: &str) -> io::Result<String> {
    let asking = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PATIENCE, asking).await?
}

async fn ask_host(to: SocketAddr, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    ask(USER, to, &request).await.unwrap()
}

fn status(answer: &str) -> u16 {
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// What must be answered now.
#[derive(Default)]
struct Phase {
    /// 0: served. 1: it changes. 2: maintained.
    now: AtomicU8,
    stop: AtomicBool,
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Phase {
    async fn until(&self, count: &AtomicUsize, more: usize) {
        let wanted = count.load(Ordering::SeqCst) + more;
        let waiting = async {
            while count.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("answers");
    }
}

/// Asks again and again, and judges each answer that neither began nor ended while it changed.
fn put_on(to: SocketAddr, from: Ipv4Addr, phase: &Arc<Phase>) -> JoinHandle<()> {
    let phase = Arc::clone(phase);
    tokio::spawn(async move {
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        while !phase.stop.load(Ordering::SeqCst) {
            let before = phase.now.load(Ordering::SeqCst);
            let answer = ask(from, to, &request).await.unwrap();
            let after = phase.now.load(Ordering::SeqCst);
            let status = status(&answer);
            let may_be: &[u16] = match (from, before, after) {
                (KEEPER, ..) | (_, 0, 0) => &[200],
                (_, 2, 2) => &[503],
                _ => &[200, 503],
            };
            assert!(
                may_be.contains(&status),
                "{from}, {before}-{after}: {answer}"
            );
            match status {
                200 => phase.served.fetch_add(1, Ordering::SeqCst),
                _ => {
                    let told = answer.contains("\r\n\r\n503 Service Unavailable\nback at 5 <pm>\n");
                    assert!(told, "{answer}");
                    phase.refused.fetch_add(1, Ordering::SeqCst)
                }
            };
        }
    })
}

#[tokio::test]
async fn maintenance_under_load_and_over_a_deploy_and_a_crash_of_the_daemon() {
    let mut world = World::new().await;
    let deploy = "health = \"/health\"\ndrain = 6";
    let shop = Artifact::demo_app("shop", deploy, "");
    let mut first = shop.begin(&world).await;
    let old = first.succeed().await;
    let phase = Arc::new(Phase::default());
    let load = [USER, USER, USER, KEEPER].map(|from| put_on(world.http(), from, &phase));
    phase.until(&phase.served, 20).await;
    let slow = Long::get(world.http(), HOST, "/slow?ms=4000").await;
    let mut socket = Long::websocket(world.http(), HOST, "/ws").await;
    socket.until(b"tick 1").await;

    phase.now.store(1, Ordering::SeqCst);
    let message = ["--message", "back at 5 <pm>", "--allow", "127.0.0.2"];
    let on = [&["maintenance", "on", "shop"][..], &message].concat();
    world.vela(&on).await.expect(0);
    phase.now.store(2, Ordering::SeqCst);
    phase.until(&phase.refused, 20).await;
    socket.until(b"tick 4").await;

    // While it is on: the request from before is waited for, and nobody but the keepers sees the new release.
    let mut second = shop.begin(&world).await;
    let (slow, socket, new) = tokio::join!(slow.end(), socket.end(), second.succeed());
    assert!(socket.received.ends_with(&GOING_AWAY), "{}", socket.text());
    let slow = slow.text();
    assert!(slow.starts_with("HTTP/1.1 200 OK"), "{slow}");
    assert!(slow.contains(&format!("x-release: {old}")) && slow.ends_with(".\n"));
    phase.until(&phase.refused, 20).await;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    let answer = ask(KEEPER, world.http(), &request).await.unwrap();
    assert!(answer.contains(&format!("x-release: {new}")), "{answer}");
    let shown = world.vela(&["status", "shop"]).await.expect(0).stdout;
    assert!(
        shown.contains("in maintenance") && shown.contains("serves 127.0.0.2/32"),
        "{shown}"
    );

    phase.now.store(1, Ordering::SeqCst);
    let off = ["maintenance", "off", "shop", "--json"];
    assert!(world.vela(&off).await.expect(0).json()["maintenance"].is_null());
    phase.now.store(0, Ordering::SeqCst);
    phase.until(&phase.served, 20).await;
    phase.now.store(1, Ordering::SeqCst);
    let again = world.vela(&[&on[..], &["--json"]].concat()).await.expect(0);
    assert_eq!(again.json()["maintenance"]["message"], "back at 5 <pm>");
    phase.now.store(2, Ordering::SeqCst);
    phase.until(&phase.refused, 5).await;
    phase.stop.store(true, Ordering::SeqCst);
    for one in load {
        one.await.expect("every answer is right");
    }

    world.kill_daemon().await;
    world.start(&[]).await;
    let first_answer = ask_host(world.http(), HOST, "/").await;
    assert_eq!(status(&first_answer), 503);
    assert!(first_answer.contains("back at 5 <pm>"), "{first_answer}");
    assert!(world.status("shop").await.maintenance.is_some());
    let answer = ask(KEEPER, world.http(), &request).await.unwrap();
    assert!(answer.contains(&format!("x-release: {new}")), "{answer}");
    world.vela(&["maintenance", "off", "shop"]).await.expect(0);
    assert_eq!(get(world.http(), HOST, "/").await.0, 200);
}

#[tokio::test]
async fn a_release_brings_its_own_pages_and_one_whose_pages_are_missing_is_refused() {
    let pages = tempfile::tempdir().unwrap();
    std::fs::write(pages.path().join("404.html"), "<p>no such shop").unwrap();
    let mut world = World::stopped(Options::default());
    let file = world.dir().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = format!("[proxy]\nerror_pages = {:?}\n", pages.path());
    std::fs::write(&file, text.replace("[proxy]\n", &line)).unwrap();
    world.start(&[]).await;
    let manifest = "[app]\nname = \"shop\"\ndomain = \"shop.localhost\"\n[deploy]\nbinary = \"run\"\n\
                    health = \"/health\"\n[proxy]\nerror_pages = \"web/errors\"\nmax_body = 10\n";
    let release = Release::demo_app(manifest, "");
    let refused = world.deploy(&release).await.expect(1);
    assert!(
        refused.stderr.contains("the error pages could not be read"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("web/errors"), "{refused:?}");
    assert_eq!(world.names("shop", "releases"), [] as [&str; 0]);

    std::fs::create_dir_all(release.files().join("web/errors")).unwrap();
    release.write("web/errors/5xx.html", "<h1>{{status}}</h1>{{message}}");
    release.write("web/errors/maintenance.html", "<h1>soon</h1>{{message}}");
    release.write("web/errors/413.html", "<h1>less</h1>");
    world.deploy(&release).await.expect(0);
    let old = world.current("shop");
    // A second one without them changes nothing.
    let without = Release::demo_app(manifest, "");
    world.deploy(&without).await.expect(3);
    assert_eq!(world.current("shop"), old);

    for (length, status_of) in [(10, 404), (11, 413)] {
        let body = "x".repeat(length);
        let request = format!(
            "POST /nothing HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let answer = ask(USER, world.http(), &request).await.unwrap();
        assert_eq!(status(&answer), status_of, "{answer}");
        assert_eq!(answer.ends_with("<h1>less</h1>"), status_of == 413);
    }
    let on = ["maintenance", "on", "shop", "--message", "at <5>"];
    world.vela(&on).await.expect(0);
    let answer = ask_host(world.http(), HOST, "/").await;
    assert!(answer.ends_with("<h1>soon</h1>at &lt;5&gt;"), "{answer}");
    assert!(
        answer.contains("content-type: text/html; charset=utf-8\r\n"),
        "{answer}"
    );
    world.vela(&["maintenance", "off", "shop"]).await.expect(0);

    world.vela(&["stop", "shop"]).await.expect(0);
    let stopped = "<h1>503</h1>the app is not running";
    assert!(ask_host(world.http(), HOST, "/").await.ends_with(stopped));
    world.kill_daemon().await;
    world.start(&[]).await;
    assert!(ask_host(world.http(), HOST, "/").await.ends_with(stopped));
    let unknown = ask_host(world.http(), "other.localhost", "/").await;
    assert_eq!(status(&unknown), 404);
    assert!(unknown.ends_with("<p>no such shop"), "{unknown}");

    // Whatever has become of them since: the app is worth more than its pages.
    let errors = world.app_dir("shop").join("releases").join(old.unwrap());
    let removed = std::process::Command::new("chmod")
        .args(["-R", "u+w"])
        .arg(&errors)
        .status();
    assert!(removed.unwrap().success());
    std::fs::remove_dir_all(errors.join("web/errors")).unwrap();
    world.kill_daemon().await;
    world.start(&[]).await;
    assert_eq!(status(&ask_host(world.http(), HOST, "/").await), 503);
    assert!(world.daemon_log().contains("goes without its error pages"));
}

fn sharing(app: &str, hosts: &str, proxy: &str) -> Release {
    let manifest = format!(
        "[app]\nname = \"{app}\"\n{hosts}\n[deploy]\nbinary = \"run\"\nhealth = \"/health\"\n[proxy]\n{proxy}\n"
    );
    Release::demo_app(&manifest, "")
}

#[tokio::test]
async fn apps_share_a_host_by_path_and_have_all_names_below_another() {
    let mut world = World::new().await;
    let hosts = "domain = \"shop.localhost\"\naliases = [\"www.shop.localhost\"]";
    let apps = [
        sharing("shop", hosts, "redirect_aliases = true"),
        sharing(
            "api",
            "domain = \"shop.localhost\"",
            "path = \"/api\"\nstrip_path = true",
        ),
        sharing("tenants", "domain = \"*.shop.localhost\"", ""),
    ];
    let mut releases = Vec::new();
    for app in &apps {
        let deployed = world.deploy(app).await.expect(0);
        releases.push(deployed.stdout.trim().to_owned());
    }
    let thief = sharing("thief", "domain = \"shop.localhost\"", "path = \"/api/\"");
    let refused = world.deploy(&thief).await.expect(1).stderr;
    assert!(
        refused.contains("shop.localhost/api belongs to the app `api`"),
        "{refused}"
    );

    for restarted in [false, true] {
        if restarted {
            world.kill_daemon().await;
            world.start(&[]).await;
        }
        for (host, path, app) in [
            ("shop.localhost", "/", 0),
            ("shop.localhost", "/apis", 0),
            ("shop.localhost", "/api", 1),
            ("shop.localhost", "/api/slow?ms=1", 1),
            ("a.shop.localhost", "/", 2),
            ("b.shop.localhost", "/api", 2),
        ] {
            let answer = ask_host(world.http(), host, path).await;
            let release = format!("x-release: {}\r\n", releases[app]);
            assert!(answer.contains(&release), "{host}{path}: {answer}");
            let is_there =
                matches!(path, "/" | "/api" | "/api/slow?ms=1") && host != "b.shop.localhost";
            assert_eq!(
                status(&answer),
                if is_there { 200 } else { 404 },
                "{host}{path}"
            );
        }
        let answer = ask_host(world.http(), "www.shop.localhost", "/x?y").await;
        assert_eq!(status(&answer), 308);
        let to = "location: http://shop.localhost/x?y\r\n";
        assert!(answer.contains(to), "{answer}");
        let deep = ask_host(world.http(), "a.b.shop.localhost", "/").await;
        assert_eq!(status(&deep), 404);
    }
    // Maintenance is an app's, and not its host's.
    world.vela(&["maintenance", "on", "api"]).await.expect(0);
    assert_eq!(get(world.http(), "shop.localhost", "/api").await.0, 503);
    assert_eq!(get(world.http(), "shop.localhost", "/").await.0, 200);
    // What one gives up another may have.
    world.vela(&["remove", "api", "--yes"]).await.expect(0);
    let freed = world.deploy(&thief).await.expect(0).stdout;
    let freed = freed.trim();
    let answer = ask_host(world.http(), "shop.localhost", "/api").await;
    assert!(answer.contains(&format!("x-release: {freed}")), "{answer}");
}
