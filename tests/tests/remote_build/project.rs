use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use vela_protocol::{Envelope, Event, Step};
use vela_tests::{Options, Output, Sshd, World, commit_all};

/// No build of a test takes longer, on a machine that compiles something else at the same time.
const PATIENCE: Duration = Duration::from_secs(600);

/// What reaches registries from where the tests run, if anything special does.
const NETWORK: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CARGO_HTTP_CAINFO",
];

/// A project in a repository of its own, a daemon, and an SSH server before it that the project's manifest names.
pub(crate) struct Project {
    dir: tempfile::TempDir,
    pub(crate) world: World,
    sshd: Sshd,
}

/// A remote build that was deployed.
pub(crate) struct Deployed {
    pub(crate) release: String,
    /// What the build printed.
    pub(crate) lines: Vec<String>,
    /// How long it took.
    pub(crate) took: Duration,
    pub(crate) events: Vec<Envelope>,
}

impl Project {
    pub(crate) async fn new() -> Project {
        Project::of(World::with(Options::default()).await)
    }

    pub(crate) fn of(world: World) -> Project {
        Project {
            dir: tempfile::tempdir().unwrap(),
            world,
            sshd: Sshd::new(),
        }
    }

    /// Writes the manifest: an app, more lines of its `[deploy]`, and its `[build]`.
    pub(crate) fn manifest(&self, app: &str, deploy: &str, build: &str) {
        let server = self.sshd.address(&self.world.socket());
        let manifest = format!(
            "[app]\nname = \"{app}\"\ndomain = \"{app}.localhost\"\n\n[deploy]\nserver = {server:?}\nhealth = \"/health\"\n\
             drain = 2\nstop_timeout = 5\n{deploy}\n\n[build]\nremote = true\n{build}\n"
        );
        self.write("Vela.toml", &manifest);
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn write_script(&self, name: &str, script: &str) {
        self.write(name, &format!("#!/bin/sh\n{script}\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn commit(&self) -> String {
        commit_all(self.dir.path())
    }

    /// `vela` with these arguments, in the project.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sshd.command();
        command.args(args).current_dir(self.dir.path());
        command
    }

    pub(crate) async fn vela(&self, args: &[&str]) -> Output {
        let output = timeout(PATIENCE, self.command(args).output()).await;
        let output = output.unwrap_or_else(|_| panic!("vela {args:?} does not end"));
        output.unwrap().into()
    }

    /// `vela deploy`, without an artifact.
    pub(crate) async fn deploy(&self) -> Output {
        self.vela(&["deploy"]).await
    }

    /// The same, to its good end.
    pub(crate) async fn deployed(&self) -> Deployed {
        let output = self.vela(&["deploy", "--json"]).await.expect(0);
        let lines = output.stdout.lines();
        let events: Vec<Envelope> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let release = match events.last().map(|last| last.event.clone()) {
            Some(Event::Succeeded { release, .. }) => release,
            _ => panic!("{output:?}"),
        };
        let took = events.iter().find_map(|one| match one.event {
            Event::StepFinished {
                step: Step::Build,
                ms,
            } => Some(Duration::from_millis(ms)),
            _ => None,
        });
        let printed = events.iter().filter_map(|one| match &one.event {
            Event::BuildPrinted { line, .. } => Some(line.clone()),
            _ => None,
        });
        Deployed {
            release,
            lines: printed.collect(),
            took: took.unwrap_or_else(|| panic!("nothing was built: {output:?}")),
            events,
        }
    }

    /// Begins `vela deploy` of what prints `mark` while it is built, and waits until it does. Gives the rest of that line.
    pub(crate) async fn building(&self, mark: &str) -> (Child, String) {
        let mut deploy = self.command(&["deploy"]);
        let mut deploy = deploy
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(deploy.stderr.take().unwrap()).lines();
        let mark = format!("build | {mark}");
        let seen = async {
            loop {
                let line = lines.next_line().await.unwrap();
                let line = line.unwrap_or_else(|| panic!("it ends:\n{}", self.world.daemon_log()));
                if let Some(rest) = line.strip_prefix(&mark) {
                    return rest.to_owned();
                }
            }
        };
        let seen = timeout(PATIENCE, seen).await.expect("the build prints it");
        // Whoever waits for the end reads the rest.
        deploy.stderr = Some(lines.into_inner().into_inner());
        (deploy, seen)
    }

    /// A file of the app's build directory.
    pub(crate) fn built(&self, app: &str, name: &str) -> PathBuf {
        self.world.app_dir(app).join("build/tree").join(name)
    }
}

pub(crate) async fn end(command: Child) -> Output {
    let output = timeout(PATIENCE, command.wait_with_output()).await;
    output.expect("the command ends").unwrap().into()
}

/// `[build.env]` with these variables, and those by which this machine reaches registries.
pub(crate) fn build_env(variables: &[(&str, &str)]) -> String {
    let network = NETWORK
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let mut all: BTreeMap<&str, String> = network.collect();
    all.extend(
        variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let mut text = String::from("\n[build.env]\n");
    for (name, value) in all {
        writeln!(text, "{name} = {value:?}").unwrap();
    }
    text
}
