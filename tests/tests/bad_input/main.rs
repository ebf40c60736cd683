//! What users do wrong, and what programs and machines do to them: each is refused or survived, says what was found
//! and what helps, and leaves nothing behind.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

mod artifacts;
mod clients;
mod daemons;
mod descriptors;
mod disk;
mod manifests;
mod ports;
mod programs;
mod secrets;
mod simultaneous;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};
use vela_tests::{Output, Release, World, get, processes_of};

const HOST: &str = "shop.localhost";

/// The longest that anything may take on a machine that compiles something else at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The manifest of `shop` with these lines in `[deploy]`.
fn manifest(deploy: &str) -> String {
    manifest_of("shop", deploy)
}

fn manifest_of(app: &str, deploy: &str) -> String {
    format!(
        "[app]\nname = \"{app}\"\ndomain = \"{app}.localhost\"\n\n[deploy]\nbinary = \"run\"\ndrain = 1\nstop_timeout = 3\n{deploy}\n"
    )
}

/// A daemon, and a good release of `shop` that it serves.
async fn serving() -> (World, String) {
    let world = World::new().await;
    let release = deploy_good(&world).await;
    (world, release)
}

async fn deploy_good(world: &World) -> String {
    let release = Release::demo_app(&manifest("health = \"/health\""), "");
    let output = world.deploy(&release).await.expect(0);
    output.stdout.trim_end().to_owned()
}

/// Begins `vela deploy`.
fn begin(world: &World, release: &Release) -> Child {
    let mut command = world.command();
    command
        .args(["deploy", "-m"])
        .arg(release.manifest())
        .arg(release.files())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits for the end of a command.
async fn end(command: Child) -> Output {
    let output = timeout(PATIENCE, command.wait_with_output()).await;
    output.expect("the command ends").unwrap().into()
}

/// Runs `vela` with this text on its stdin.
async fn vela_reading(world: &World, args: &[&str], stdin: &str) -> Output {
    let mut command = world.command();
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(stdin.as_bytes()).await.unwrap();
    drop(pipe);
    end(child).await
}

/// Waits until `look` finds something.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{caller}: {what} never came");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn exists(path: &Path) {
    eventually(&path.display().to_string(), async || {
        path.exists().then_some(())
    })
    .await;
}

/// Nothing is left of a deploy that failed: this release serves, or none, and that is all there is of the app.
async fn expect_undone(world: &World, serving: Option<&str>) {
    let releases: Vec<String> = serving.map(str::to_owned).into_iter().collect();
    assert_eq!(world.current("shop").as_deref(), serving);
    assert_eq!(world.names("shop", "releases"), releases);
    assert_eq!(world.names("shop", "meta"), releases);
    world.nothing_staged().await;
    match serving {
        Some(release) => {
            let (status, body) = get(world.http(), HOST, "/").await;
            assert_eq!(status, 200, "{body}");
            assert!(body.starts_with(release), "{body}");
            let pid = world.status("shop").await.pid.unwrap();
            assert_eq!(processes_of(world.data_dir()), [pid]);
        }
        None => {
            assert_eq!(get(world.http(), HOST, "/").await.0, 404);
            assert_eq!(processes_of(world.data_dir()), [0u32; 0]);
        }
    }
    let run = world.data_dir().join("run");
    let mut instances = entries(&run);
    instances.retain(|name| run.join(name).is_dir());
    assert_eq!(instances.len(), releases.len());
    eventually("the end of the tasks' logs", async || {
        let logs = world.names("shop", "logs");
        (!logs.iter().any(|name| name.starts_with('.'))).then_some(())
    })
    .await;
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Whether `text` has all of these, in this order.
#[track_caller]
fn expect_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else {
            panic!("{part:?} is not where it should be in:\n{text}")
        };
        rest = &rest[at + part.len()..];
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
