use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::version::Version;
use super::{KIND, PROGRAM};
use crate::download::arch;
use crate::{Download, ServiceError};

/// It prints its version and ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program of the server, of a version that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) version: Version,
}

/// Where programs come from.
#[derive(Debug)]
pub(super) struct Programs {
    /// Looked into first to last.
    pub(super) dirs: Vec<PathBuf>,
    pub(super) download: Option<Download>,
    /// Where downloads are put.
    pub(super) bin: PathBuf,
}

impl Programs {
    /// The directories in `PATH`, and where Debian and an operator put it.
    pub(super) fn usual_dirs() -> Vec<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from);
        let mut dirs: Vec<_> = std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .collect();
        for dir in usual {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        dirs
    }

    /// One that will do where `wanted` is asked for: `current` if it still does, else the
    /// machine's, else a downloaded one, else it is downloaded now.
    pub(super) async fn find(
        &self,
        current: &Path,
        wanted: Version,
    ) -> Result<Program, ServiceError> {
        let mut seen = Vec::new();
        let downloaded = self.download.as_ref().map(|d| d.target(&self.bin, PROGRAM));
        let candidates = std::iter::once(current.to_owned())
            .chain(self.dirs.iter().map(|dir| dir.join(PROGRAM)))
            .chain(downloaded);
        for path in candidates.filter(|path| path.is_file()) {
            // One that can't be executed is as good as none.
            let Ok(version) = version_of(&path).await else {
                continue;
            };
            if version.satisfies(wanted) {
                return Ok(Program { path, version });
            }
            seen.push(format!("{} is {version}", path.display()));
        }
        let Some(download) = &self.download else {
            seen.push("nothing is to be downloaded".to_owned());
            return Err(missing(wanted, seen));
        };
        let offered: Option<Version> = download.version().parse().ok();
        if !offered.is_some_and(|offered| offered.satisfies(wanted)) {
            seen.push(format!("the download is {}", download.version()));
            return Err(missing(wanted, seen));
        }
        tracing::info!(version = download.version(), "downloading nats-server");
        crate::durable::directory(&self.bin, 0o755, None)?;
        let path = download.install(KIND, &self.bin, PROGRAM).await?;
        match version_of(&path).await {
            Ok(version) => Ok(Program { path, version }),
            Err(source) => Err(ServiceError::Tool {
                tool: path.display().to_string(),
                output: Vec::new(),
                source: source.into(),
            }),
        }
    }
}

/// Lets the program read a configuration, without running a server.
pub(super) async fn check(program: &Path, config: &Path) -> Result<(), ServiceError> {
    let args = [OsStr::new("-t"), OsStr::new("-c"), config.as_os_str()];
    let failed = |output, source| ServiceError::Tool {
        tool: format!("{} -t", program.display()),
        output,
        source,
    };
    let ran = run(program, &args)
        .await
        .map_err(|error| failed(Vec::new(), error.into()))?;
    if ran.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&ran.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&ran.stderr));
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    let last = lines[lines.len().saturating_sub(20)..].to_vec();
    Err(failed(last, ran.status.to_string().into()))
}

/// What it says of itself: `nats-server: v2.9.10`.
async fn version_of(program: &Path) -> io::Result<Version> {
    let ran = run(program, &[OsStr::new("--version")]).await?;
    let said = String::from_utf8_lossy(&ran.stdout);
    said.trim()
        .rsplit_once(" v")
        .and_then(|(_, version)| {
            // A build of somebody's own may have more behind it.
            let end = version.find(|c: char| c != '.' && !c.is_ascii_digit());
            version[..end.unwrap_or(version.len())].parse().ok()
        })
        .ok_or_else(|| io::Error::other(format!("it does not say its version ({})", ran.status)))
}

async fn run(program: &Path, args: &[&OsStr]) -> io::Result<std::process::Output> {
    let ran = async {
        loop {
            let ran = Command::new(program)
                .args(args)
                .env_clear()
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output()
                .await;
            match ran {
                // A process that was forked while the file was written still has it open, for as
                // long as it takes to become another program.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    sleep(Duration::from_millis(5)).await;
                }
                ran => return ran,
            }
        }
    };
    timeout(PATIENCE, ran)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn missing(wanted: Version, seen: Vec<String>) -> ServiceError {
    let arch = arch();
    ServiceError::NotInstalled {
        kind: KIND,
        version: Some(wanted.to_string()),
        command: format!(
            "curl -fL https://github.com/nats-io/nats-server/releases/download/v{wanted}/\
             nats-server-v{wanted}-linux-{arch}.tar.gz | \
             tar -xz -C /usr/local/bin --strip-components=1 --wildcards '*/nats-server'"
        ),
        output: Vec::new(),
        source: seen.join(", ").into(),
    }
}
