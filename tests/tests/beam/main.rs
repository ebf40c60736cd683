//! Elixir releases, as `mix release` makes them: deployed like any app, stopped as the BEAM is stopped, with nothing
//! written into the release, and with names on the network only where they are asked for.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]
#![expect(clippy::print_stdout, reason = "measured numbers, for who wants them")]

mod crashes;
mod deploys;
mod nodes;
mod stops;
mod users;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use vela_protocol::Event;
use vela_tests::{Artifact, Deploy, Release, World, get};

/// Nothing here takes longer on a machine that compiles something else at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The release of the project beside these tests. It takes mix alone: the project has no dependencies.
///
/// It is built once for all tests, and again when the project has changed.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("elixir/my_app");
        let mut hasher = DefaultHasher::new();
        contents(&project).hash(&mut hasher);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let built = target.join(format!("my_app-{:016x}", hasher.finish()));
        if !built.exists() {
            let began = Instant::now();
            let dir = tempfile::tempdir_in(target).unwrap();
            let copy = dir.path().join("my_app");
            run(Command::new("cp").arg("-a").args([&project, &copy]));
            run(Command::new("mix")
                .args(["release", "--quiet"])
                .current_dir(&copy)
                .env("MIX_ENV", "prod")
                .env("HOME", dir.path())
                .env("LANG", "C.UTF-8"));
            // Another process may have been faster.
            if let Err(error) = std::fs::rename(copy.join("_build/prod/rel/my_app"), &built) {
                assert!(built.exists(), "{error}");
            }
            println!("`mix release` took {:?}", began.elapsed());
        }
        built
    })
}

fn run(command: &mut Command) {
    let output = command.output().expect("`make test` installs elixir");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Every file below a directory: its mode, and what is in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                dirs.push(path);
                continue;
            }
            let mode = entry.metadata().unwrap().permissions().mode();
            let content = std::fs::read(&path).unwrap();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            found.insert(name, (mode & 0o111, content));
        }
    }
    found
}

/// Fails unless every release of the app has the files of the artifact and no other.
#[track_caller]
fn expect_unchanged(world: &World, app: &str) {
    let built = contents(built());
    let releases = world.names(app, "releases");
    assert!(!releases.is_empty());
    for release in releases {
        let release = contents(&world.app_dir(app).join("releases").join(release));
        let names = |of: &BTreeMap<PathBuf, _>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&release), names(&built));
        assert!(release == built, "a file has changed");
    }
}

/// An app that is the project's release.
struct App {
    name: String,
    deploy: String,
    env: String,
}

impl App {
    /// With its default entrypoint.
    fn new() -> App {
        App {
            name: "my-app".to_owned(),
            deploy: String::new(),
            env: String::new(),
        }
    }

    /// Of another name.
    fn named(name: &str) -> App {
        App {
            name: name.to_owned(),
            ..App::new().deploy("binary = \"bin/my_app\"")
        }
    }

    /// With one more line in `[deploy]`.
    fn deploy(mut self, line: &str) -> App {
        self.deploy += line;
        self.deploy.push('\n');
        self
    }

    /// With one more line in `[env]`.
    fn env(mut self, line: &str) -> App {
        self.env += line;
        self.env.push('\n');
        self
    }

    fn host(&self) -> String {
        format!("{}.localhost", self.name)
    }

    fn manifest(&self) -> String {
        format!(
            "[app]\nname = {:?}\ndomain = {:?}\n\n[deploy]\ntype = \"beam\"\nhealth = \"/health\"\ndrain = 1\n\
             {}\n[env]\n{}",
            self.name,
            self.host(),
            self.deploy,
            self.env
        )
    }

    fn release(&self) -> Release {
        Release::of_directory(&self.manifest(), built())
    }

    fn artifact(&self) -> Artifact {
        Artifact::of(&self.name, &self.manifest(), &self.release())
    }

    /// Deploys it once.
    async fn serve(&self, world: &World) -> Deploy {
        self.artifact().deploy(world).await
    }

    async fn get(&self, world: &World, path: &str) -> String {
        let (status, body) = get(world.http(), &self.host(), path).await;
        assert!(matches!(status, 200 | 202), "{status}: {body}");
        body
    }

    /// The environment of the instance that serves.
    async fn environment(&self, world: &World) -> BTreeMap<String, String> {
        let lines = self.get(world, "/env").await;
        let pairs = lines.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The lines of a file of its data.
    fn lines(&self, world: &World, file: &str) -> Vec<String> {
        let path = world.app_dir(&self.name).join("data").join(file);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
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
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits until these alone have temporary files: what others had is removed aside.
async fn tmp_has(world: &World, app: &str, names: &[&str]) {
    let mut names = names.to_vec();
    names.sort_unstable();
    eventually("the end of temporary files", async || {
        (world.names(app, "tmp") == names).then_some(())
    })
    .await;
}

/// The instance that a deploy started, and its port.
fn started(deploy: &Deploy) -> (String, u16) {
    let started = deploy.events().find_map(|event| match event {
        Event::InstanceStarted { instance, port, .. } => Some((instance.clone(), (*port)?)),
        _ => None,
    });
    started.unwrap()
}

/// The instance that a deploy stopped, and how it ended.
fn stopped(deploy: &Deploy) -> Option<(String, String)> {
    deploy.events().find_map(|event| match event {
        Event::InstanceStopped { instance, exit } => Some((instance.clone(), exit.clone())),
        _ => None,
    })
}
