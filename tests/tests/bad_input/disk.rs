//! A full disk: a file system of a few megabytes in a mount namespace of the daemon's own, which ends with it.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use vela_protocol::{AppState, Outcome};
use vela_tests::{Options, Release, World, get};

use super::{
    HOST, begin, end, entries, eventually, expect_in_order, is_root, manifest, manifest_of,
};

/// What a file takes at least.
const PAGE: usize = 4096;

struct SmallDisk {
    /// Gone before the world is: what ends there would be started again.
    daemon: Child,
    world: World,
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount").kill_on_drop(true);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

impl SmallDisk {
    /// A daemon on a disk of this size; nothing where the kernel lets nobody mount one.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    async fn start(megabytes: usize) -> Option<SmallDisk> {
        let mount = "mount -t tmpfs -o mode=711 none /mnt";
        let possible = unshare().args(["sh", "-c", mount]).output().await.unwrap();
        if !possible.status.success() {
            println!("skipped, no file system can be mounted: {possible:?}");
            return None;
        }
        let world = World::stopped(Options::default());
        std::fs::create_dir(world.data_dir()).unwrap();
        let log = std::fs::File::create(world.dir().join("daemon.log")).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={megabytes}m,mode=711 none \"$1\" && shift && exec \"$@\""
        );
        let daemon = unshare()
            .args(["sh", "-c", &script, "sh"])
            .arg(world.data_dir())
            .args([env!("CARGO_BIN_EXE_vela-under-test"), "serve", "--config"])
            .arg(world.dir().join("server.toml"))
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let disk = SmallDisk { world, daemon };
        eventually("the daemon", async || {
            disk.world.client().version().await.ok()
        })
        .await;
        Some(disk)
    }

    /// A path on the small disk, as this process sees it.
    fn path(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.daemon.id().unwrap());
        let below = self.world.data_dir().strip_prefix("/").unwrap().join(path);
        PathBuf::from(root).join(below)
    }

    /// Leaves this many pages free.
    fn fill(&self, but: u64) {
        let mut file = std::fs::File::create(self.path("filler")).unwrap();
        while file.write_all(&[1; PAGE]).is_ok() {}
        let length = file.metadata().unwrap().len() - but * PAGE as u64;
        file.set_len(length).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.path("filler")).unwrap();
    }

    async fn expect_serving(&self, release: &str) {
        let (status, body) = get(self.world.http(), HOST, "/").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.starts_with(release), "{body}");
        // The upload goes a moment after the client has heard of its end.
        eventually("an empty staging", async || {
            entries(&self.path("staging")).is_empty().then_some(())
        })
        .await;
        assert_eq!(entries(&self.path("apps/shop/releases")), [release]);
        assert_eq!(entries(&self.path("apps/shop/meta")), [release]);
        let status = self.world.status("shop").await;
        assert_eq!(status.state, AppState::Running);
        assert_eq!(status.release.as_deref(), Some(release));
    }
}

fn good() -> Release {
    Release::demo_app(&manifest("health = \"/health\"\nkeep_releases = 1"), "")
}

async fn deploy_good(world: &World) -> String {
    let output = world.deploy(&good()).await.expect(0);
    output.stdout.trim_end().to_owned()
}

#[tokio::test]
async fn a_release_that_does_not_fit_is_refused_whole() {
    let Some(disk) = SmallDisk::start(8).await else {
        return;
    };
    // First as the first release ever.
    let large = good();
    let file = std::fs::File::create(large.files().join("zeros")).unwrap();
    file.set_len(64 << 20).unwrap();
    let output = disk.world.deploy(&large).await.expect(1);
    expect_in_order(&output.stderr, &["`shop` serves nothing, as before\n"]);
    assert_eq!(entries(&disk.path("apps/shop/releases")), [""; 0]);

    let v1 = deploy_good(&disk.world).await;
    let output = disk.world.deploy(&large).await.expect(3);
    expect_in_order(
        &output.stderr,
        &[
            "error: the deploy of `shop` failed at unpack\n",
            "  caused by: the release could not be stored\n",
            "zeros`\n",
            "No space left on device",
            "hint: free space on the disk of ",
            &format!("`shop` still serves {v1}\n"),
        ],
    );
    disk.expect_serving(&v1).await;
    deploy_good(&disk.world).await;
}

#[tokio::test]
async fn an_upload_that_does_not_fit_is_refused_whole() {
    let Some(disk) = SmallDisk::start(8).await else {
        return;
    };
    let v1 = deploy_good(&disk.world).await;
    let large = good();
    let noise: Vec<u8> = (0..(16 << 20) / 16)
        .flat_map(|_| uuid::Uuid::new_v4().into_bytes())
        .collect();
    std::fs::write(large.files().join("noise"), noise).unwrap();
    let output = disk.world.deploy(&large).await.expect(3);
    expect_in_order(
        &output.stderr,
        &[
            "error: could not store the upload ",
            "No space left on device",
            "hint: make room on the file system of the server's data directory\n",
            &format!("`shop` still serves {v1}\n"),
        ],
    );
    disk.expect_serving(&v1).await;
    deploy_good(&disk.world).await;
}

#[tokio::test]
async fn on_a_disk_without_a_byte_left_what_runs_goes_on() {
    let Some(disk) = SmallDisk::start(8).await else {
        return;
    };
    let v1 = deploy_good(&disk.world).await;
    disk.fill(0);
    let output = disk.world.deploy(&good()).await.expect(3);
    expect_in_order(
        &output.stderr,
        &[
            "No space left on device",
            &format!("`shop` still serves {v1}\n"),
        ],
    );
    disk.expect_serving(&v1).await;
    for args in [
        &["apps"][..],
        &["status", "shop"],
        &["history", "shop"],
        &["releases", "shop"],
        &["logs", "shop"],
    ] {
        disk.world.vela(args).await.expect(0);
    }
    // With room for an upload alone, not even the intent can be written down.
    disk.free();
    disk.fill(1);
    let output = disk.world.deploy(&good()).await.expect(3);
    expect_in_order(
        &output.stderr,
        &[
            "error: `shop` could not be worked on\n",
            "No space left on device",
        ],
    );
    disk.expect_serving(&v1).await;
    assert_eq!(entries(&disk.path("apps/shop/history")).len(), 1);
    // An app that could not even begin is none, and has no domain either.
    let blog = Release::demo_app(&manifest_of("blog", ""), "");
    disk.world.deploy(&blog).await.expect(1);
    disk.world.vela(&["status", "blog"]).await.expect(1);
    disk.free();
    let heir = manifest_of("press", "").replace("press.localhost", "blog.localhost");
    disk.world
        .deploy(&Release::demo_app(&heir, ""))
        .await
        .expect(0);
    deploy_good(&disk.world).await;
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while_does_not_tear_the_history() {
    let Some(disk) = SmallDisk::start(8).await else {
        return;
    };
    let v1 = deploy_good(&disk.world).await;
    // Probes that fail are in the history; here they are more than a page holds, while not a page is free.
    let health = "health = { path = \"/none\", retries = 60, interval = \"200ms\" }";
    let release = Release::demo_app(&manifest(health), "");
    let mut deploy = begin(&disk.world, &release);
    let mut lines = BufReader::new(deploy.stderr.take().unwrap()).lines();
    let mut until = async |what: &str| {
        while !lines.next_line().await.unwrap().unwrap().contains(what) {}
    };
    until("attempt 1 of 60").await;
    disk.fill(0);
    until("attempt 50 of 60").await;
    disk.free();
    until("still serves").await;
    end(deploy).await.expect(3);
    let path = disk.path("apps/shop/history");
    let newest = entries(&path).into_iter().max().unwrap();
    let text = std::fs::read_to_string(path.join(newest)).unwrap();
    let written = text.matches("\"health_checked\"").count();
    assert!(
        written < 50,
        "the disk was full: {written} probes are written"
    );
    let history = disk.world.client().history("shop").await.unwrap();
    assert_eq!(history[0].outcome, Outcome::Failed, "{:?}", history[0]);
    disk.expect_serving(&v1).await;
    deploy_good(&disk.world).await;
}
