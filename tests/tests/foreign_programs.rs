//! Servers that nobody here wrote, deployed as a user would: from a release directory with a line of shell, or with
//! none. `make test` installs them.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;
use vela_tests::{Release, World, get, processes_of, try_get};

const HOST: &str = "site.localhost";

fn manifest(deploy: &str) -> String {
    format!(
        "[app]\nname = \"site\"\ndomain = \"{HOST}\"\n\n[deploy]\nbinary = \"run\"\ndrain = 2\nstop_timeout = 5\n{deploy}\n"
    )
}

/// A release with a web page that names its version.
fn site(deploy: &str, script: &str) -> Release {
    let release = Release::script(&manifest(deploy), script);
    std::fs::create_dir(release.files().join("www")).unwrap();
    set_page(&release, "version 1");
    release
}

fn set_page(release: &Release, text: &str) {
    release.write("www/index.html", &format!("<p>{text}</p>\n"));
}

fn page(text: &str) -> String {
    format!("<p>{text}</p>\n")
}

/// Asks for the page again and again, one connection a request, and takes nothing but a version's page.
struct Visitors {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Visitors {
    fn of(world: &World) -> Visitors {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let visit = |_| {
            let (addr, stop, asked) = (world.http(), Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = try_get(addr, HOST, "/").await.unwrap();
                    assert_eq!(status, 200, "{body}");
                    assert!(body.starts_with("<p>version "), "{body}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let tasks = (0..3).map(visit).collect();
        Visitors { stop, asked, tasks }
    }

    async fn more(&self, count: u64) {
        let until = self.asked.load(Ordering::Relaxed) + count;
        while self.asked.load(Ordering::Relaxed) < until {
            assert!(
                !self.tasks.iter().any(JoinHandle::is_finished),
                "a visitor failed"
            );
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Fails if a request failed.
    async fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Deployed twice under load, rolled back, restarted and stopped, like any app.
async fn live(release: &Release) -> World {
    let world = World::new().await;
    world.deploy(release).await.expect(0);
    assert_eq!(get(world.http(), HOST, "/").await, (200, page("version 1")));
    let visitors = Visitors::of(&world);
    visitors.more(20).await;
    set_page(release, "version 2");
    let second = world.deploy(release).await.expect(0);
    // Told to stop, it stopped: nothing had to be killed.
    assert!(!second.stderr.contains("killed by signal 9"), "{second:?}");
    assert_eq!(get(world.http(), HOST, "/").await, (200, page("version 2")));
    visitors.more(20).await;
    world.vela(&["rollback", "site"]).await.expect(0);
    assert_eq!(get(world.http(), HOST, "/").await, (200, page("version 1")));
    world.vela(&["restart", "site"]).await.expect(0);
    visitors.more(20).await;
    visitors.leave().await;

    let port = world.status("site").await.port.unwrap();
    world.vela(&["stop", "site"]).await.expect(0);
    assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
    assert_eq!(get(world.http(), HOST, "/").await.0, 503);
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    world.vela(&["start", "site"]).await.expect(0);
    assert_eq!(get(world.http(), HOST, "/").await, (200, page("version 1")));
    world
}

#[tokio::test]
async fn python_http_server() {
    let script = "exec python3 -u -m http.server \"$PORT\" --bind 127.0.0.1 --directory www";
    // No health check: its port that accepts is enough.
    let world = live(&site("", script)).await;
    let logs = world.vela(&["logs", "site"]).await.expect(0);
    assert!(logs.stdout.contains("\"GET / HTTP/1."), "{logs:?}");
    // What it answers by itself passes through.
    assert_eq!(get(world.http(), HOST, "/none").await.0, 404);
}

#[tokio::test]
async fn busybox_httpd() {
    let script = "exec busybox httpd -f -p \"127.0.0.1:$PORT\" -h www";
    live(&site("health = \"/\"", script)).await;
}

/// The compiled program itself is the release: no shell, no directory, its arguments in the manifest.
#[tokio::test]
async fn nats_server() {
    let world = World::new().await;
    let manifest = manifest(
        "health = \"/healthz\"\nargs = [\"-a\", \"127.0.0.1\", \"-m\", \"${port}\", \"-p\", \"-1\"]",
    )
    .replace("\"run\"", "\"nats-server\"");
    let release = Release::script(&manifest, "");
    let program = which("nats-server").expect("`make test` installs nats-server");
    let deploy = async || {
        let manifest = release.manifest();
        world
            .vela(&["deploy", "-m", manifest.to_str().unwrap(), &program])
            .await
            .expect(0)
    };
    deploy().await;
    let server = async || -> serde_json::Value {
        let (status, body) = get(world.http(), HOST, "/varz").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let first = server().await;
    assert_eq!(first["http_port"], world.status("site").await.port.unwrap());
    let second = deploy().await;
    assert!(!second.stderr.contains("killed by signal 9"), "{second:?}");
    let second = server().await;
    assert_ne!(second["server_id"], first["server_id"]);
    // It wrote to stderr, and dies as any server may: it is back, under another port or the same.
    let logs = world.vela(&["logs", "site"]).await.expect(0);
    assert!(logs.stdout.contains("err "), "{logs:?}");
    assert!(logs.stdout.contains("Server is ready"), "{logs:?}");
    vela_tests::kill(
        world.status("site").await.pid.unwrap(),
        rustix::process::Signal::KILL,
    );
    let began = std::time::Instant::now();
    while world.status("site").await.restarts == 0
        || world.status("site").await.health.as_deref() != Some("healthy")
    {
        assert!(
            began.elapsed().as_secs() < 30,
            "{:?}",
            world.status("site").await
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_ne!(server().await["server_id"], second["server_id"]);
}

/// A master with workers, its own configuration, and QUIT as its word for a graceful stop.
#[tokio::test]
async fn nginx() {
    let program = which("nginx").expect("`make test` installs nginx-light");
    // As root its workers would change to a user who may not pass through the directories of this test.
    let user = match rustix::process::geteuid().is_root() {
        true => "user root;",
        false => "",
    };
    let script = format!(
        r#"cat > "$VELA_DATA_DIR/nginx.$PORT.conf" <<END
{user}
daemon off;
worker_processes 2;
pid $VELA_DATA_DIR/nginx.$PORT.pid;
error_log stderr;
events {{}}
http {{
    access_log /dev/stdout;
    client_body_temp_path $VELA_DATA_DIR/body;
    proxy_temp_path $VELA_DATA_DIR/proxy;
    fastcgi_temp_path $VELA_DATA_DIR/fastcgi;
    uwsgi_temp_path $VELA_DATA_DIR/uwsgi;
    scgi_temp_path $VELA_DATA_DIR/scgi;
    server {{
        listen 127.0.0.1:$PORT;
        root $PWD/www;
    }}
}}
END
exec '{program}' -e stderr -p "$VELA_DATA_DIR" -c "$VELA_DATA_DIR/nginx.$PORT.conf""#
    );
    live(&site("health = \"/\"\nstop_signal = \"QUIT\"", &script)).await;
}

/// Where a program is; Debian keeps servers where not everyone's PATH leads.
fn which(program: &str) -> Option<String> {
    let found = Command::new("sh")
        .args([
            "-c",
            "PATH=$PATH:/usr/sbin; command -v \"$1\"",
            "sh",
            program,
        ])
        .output()
        .unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    found.status.success().then(|| path.trim_end().to_owned())
}
