use std::collections::VecDeque;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::KIND;
use super::major::Major;
use crate::{ServiceError, durable};

/// How many of apt's lines an error tells.
const LINES: usize = 20;

/// The commands of the PostgreSQL project for versions that a distribution lacks.
const PGDG: &str = "apt-get install -y postgresql-common && \
    /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y";

/// Kept with Debian's own settings, <https://manpages.debian.org/pg_createcluster>: they make the
/// package's scripts create and start a server of their own, on port 5432, unless told otherwise.
const DROP_IN: (&str, &str) = (
    "vela-no-main-cluster.conf",
    "# Only here while Vela installs a server. Remove it if you find it.\n\
     create_main_cluster = false\n",
);

/// How [`Postgres`](crate::Postgres) gets the programs of a version that is not there.
#[derive(Debug, Clone)]
pub struct Installer {
    apt_get: Option<PathBuf>,
    settings: PathBuf,
    timeout: Duration,
    /// Held by the one installation that runs, also when nobody waits for it any more.
    turn: Arc<Mutex<()>>,
}

/// Why an installation came to nothing.
#[derive(Debug)]
struct Failure {
    source: Box<dyn Error + Send + Sync>,
    output: Vec<String>,
}

impl Installer {
    /// Installs Debian's `postgresql-<major>` by `apt-get`, as root, within 15 minutes. The
    /// package makes no server of its own.
    #[must_use]
    pub fn apt() -> Self {
        Self {
            apt_get: Some("apt-get".into()),
            settings: "/etc/postgresql-common/createcluster.d".into(),
            timeout: Duration::from_secs(15 * 60),
            turn: Arc::default(),
        }
    }

    /// Installs nothing: what is missing is an error that says how to install it.
    #[must_use]
    pub fn never() -> Self {
        Self {
            apt_get: None,
            ..Self::apt()
        }
    }

    /// Runs this program as `apt-get`.
    #[must_use]
    pub fn program(mut self, apt_get: PathBuf) -> Self {
        self.apt_get = Some(apt_get);
        self
    }

    /// The directory of the settings that keep the package from making a server.
    #[must_use]
    pub fn settings(mut self, directory: PathBuf) -> Self {
        self.settings = directory;
        self
    }

    /// Gives it this time, after which it is killed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Installs this version, or the distribution's own. It goes on when the future is dropped:
    /// a package manager that is killed leaves a machine that can install nothing any more. The
    /// next call waits for it.
    pub(super) async fn install(&self, major: Option<Major>) -> Result<(), ServiceError> {
        let package = package(major);
        let install = install_command(&package);
        let missing = |command, failure: Failure| ServiceError::NotInstalled {
            kind: KIND,
            version: major.map(|major| major.to_string()),
            command,
            output: failure.output,
            source: failure.source,
        };
        let Some(apt_get) = self.apt_get.clone() else {
            return Err(missing(install, "nothing is installed from here".into()));
        };
        if !geteuid().is_root() {
            let failure = "only root can install packages".into();
            return Err(missing(format!("sudo {install}"), failure));
        }

        let (this, name) = (self.clone(), package.clone());
        let task = tokio::spawn(async move { this.run(&apt_get, &name).await });
        let failure = match task.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(panicked) => Failure {
                source: panicked.into(),
                output: Vec::new(),
            },
        };
        if is_unknown(&failure.output) {
            let command = format!("{PGDG} && {install}");
            let failure = Failure {
                source: format!(
                    "the distribution has no package {package}; the repository of the \
                     PostgreSQL project, PGDG, may"
                )
                .into(),
                ..failure
            };
            return Err(missing(command, failure));
        }
        Err(missing(install, failure))
    }

    /// Nothing was installed, or something else than what is wanted.
    pub(super) fn missing(&self, major: Option<Major>) -> ServiceError {
        let package = package(major);
        ServiceError::NotInstalled {
            kind: KIND,
            version: major.map(|major| major.to_string()),
            command: install_command(&package),
            output: Vec::new(),
            source: "its programs are not where they are looked for".into(),
        }
    }

    async fn run(&self, apt_get: &Path, package: &str) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let _no_main_cluster = NoMainCluster::set(&self.settings).map_err(|source| Failure {
            source: Box::new(source),
            output: Vec::new(),
        })?;
        let install = ["install", "-y", "--no-install-recommends", package];
        let attempts = async {
            let Err(first) = apt(apt_get, &install).await else {
                return Ok(());
            };
            // The lists of packages may be old, or not there at all.
            if !is_unknown(&first.output) && !is_outdated(&first.output) {
                return Err(first);
            }
            let updated = apt(apt_get, &["update"]).await;
            let second = apt(apt_get, &install).await;
            second.map_err(|mut failure| {
                if let Err(update) = updated {
                    failure.output.splice(0..0, update.output);
                }
                failure
            })
        };
        match timeout(self.timeout, attempts).await {
            Ok(ended) => ended,
            Err(_) => Err(format!("apt-get took longer than {:?}", self.timeout)
                .as_str()
                .into()),
        }
    }
}

impl Default for Installer {
    fn default() -> Self {
        Self::apt()
    }
}

impl From<&str> for Failure {
    fn from(source: &str) -> Self {
        Self {
            source: source.into(),
            output: Vec::new(),
        }
    }
}

/// Keeps Debian's package from making a server, as long as it lives.
#[derive(Debug)]
struct NoMainCluster {
    file: PathBuf,
    /// The directory, if it was not there before.
    directory: Option<PathBuf>,
}

impl NoMainCluster {
    fn set(directory: &Path) -> Result<Self, ServiceError> {
        let is_new = !directory.exists();
        fs::create_dir_all(directory).map_err(durable::failed(directory))?;
        let (name, contents) = DROP_IN;
        let file = directory.join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&file)
            .and_then(|mut file| file.write_all(contents.as_bytes()));
        match written {
            // Left by an installation that was killed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            written => written.map_err(durable::failed(&file))?,
        }
        Ok(Self {
            file,
            directory: is_new.then(|| directory.to_owned()),
        })
    }
}

impl Drop for NoMainCluster {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.file) {
            tracing::warn!(%error, file = %self.file.display(), "cannot be removed");
        }
        if let Some(directory) = &self.directory {
            // Others may have put their settings beside ours by now; then it stays.
            fs::remove_dir(directory).ok();
        }
    }
}

fn package(major: Option<Major>) -> String {
    match major {
        Some(major) => format!("postgresql-{major}"),
        None => "postgresql".into(),
    }
}

fn install_command(package: &str) -> String {
    format!("apt-get install -y --no-install-recommends {package}")
}

async fn apt(apt_get: &Path, args: &[&str]) -> Result<(), Failure> {
    let failed = |source: io::Error| Failure {
        source: format!("{}: {source}", apt_get.display()).into(),
        output: Vec::new(),
    };
    let mut child = Command::new(apt_get)
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut output, said, status) = tokio::join!(last_lines(out), last_lines(err), child.wait());
    output.extend(said);
    let status = status.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let from = output.len().saturating_sub(LINES);
    Err(Failure {
        source: format!("apt-get {}: {status}", args.join(" ")).into(),
        output: output.split_off(from),
    })
}

/// Reads to the end; gives the last lines.
async fn last_lines(stream: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut last = VecDeque::new();
    if let Some(stream) = stream {
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            if last.len() == LINES {
                last.pop_front();
            }
            last.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    }
    last.into()
}

/// Whether apt has never heard of the package.
fn is_unknown(output: &[String]) -> bool {
    says(
        output,
        &["Unable to locate package", "no installation candidate"],
    )
}

/// Whether apt has heard of files that are gone.
fn is_outdated(output: &[String]) -> bool {
    says(output, &["Failed to fetch", "Unable to fetch"])
}

fn says(output: &[String], phrases: &[&str]) -> bool {
    output
        .iter()
        .any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
}
