use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::geteuid;
use secrecy::ExposeSecret;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::config::{Config, SUPERUSER};
use super::major::Major;
use super::programs::Programs;
use super::record::ServerRecord;
use super::session::Door;
use super::tuning::Tuning;
use crate::password::new_password;
use crate::ports::free_port;
use crate::{ServerName, ServerSignal, ServerSpec, ServerUser, ServiceError, durable};

/// How long what fills a directory may take to die.
const DYING: Duration = Duration::from_secs(5);
/// The longest path of a socket that the kernel takes.
const LONGEST_SOCKET: usize = 107;

/// The server of one version, as files: `<major>/`.
///
/// ```text
/// server.toml       port, version; 0600
/// postgresql.conf   and pg_hba.conf, pg_ident.conf: written before each start, read by the server
/// local.conf        the operator's own settings
/// data/             the server's
/// run/              the server's socket; nobody else may enter
/// ```
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) major: Major,
    pub(super) name: ServerName,
    dir: PathBuf,
}

impl Cluster {
    /// Below `dir`, the directory of all versions.
    pub(super) fn new(dir: &Path, major: Major) -> Self {
        let name = ServerName::parse(&format!("postgres-{major}"));
        Self {
            major,
            name: name.expect("a short number makes it a name"),
            dir: dir.join(major.to_string()),
        }
    }

    /// The versions of which there is a server.
    pub(super) fn all(dir: &Path) -> Result<Vec<Self>, ServiceError> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(durable::failed(dir))?,
        };
        let mut majors = Vec::new();
        for entry in entries {
            let name = entry.map_err(durable::failed(dir))?.file_name();
            majors.extend(name.to_str().and_then(Major::of_directory));
        }
        majors.sort_unstable();
        let clusters = majors.into_iter().map(|major| Self::new(dir, major));
        Ok(clusters.filter(Self::is_made).collect())
    }

    /// Whether it has data, all of it.
    pub(super) fn is_made(&self) -> bool {
        self.data().join("PG_VERSION").is_file()
    }

    pub(super) fn record(&self) -> Result<Option<ServerRecord>, ServiceError> {
        ServerRecord::load(&self.record_file())
    }

    /// The superuser's way in, once the server has a port.
    pub(super) fn door(&self) -> Result<Option<Door>, ServiceError> {
        let record = self.record()?;
        Ok(record.map(|record| Door::here(&self.run(), record.port)))
    }

    /// Makes whatever is missing up to what the server is started with. A `fresh` server is one in
    /// which nobody has anything yet: its port may change if it is taken.
    ///
    /// Idempotent. After a crash in it, or when it is dropped, the next call goes on.
    pub(super) async fn prepare(
        &self,
        programs: &Programs,
        user: Option<&ServerUser>,
        fresh: bool,
    ) -> Result<ServerSpec, ServiceError> {
        // A server that has a user of its own passes through, and sees no more than it must.
        let passage = if user.is_some() { 0o711 } else { 0o700 };
        if let Some(parent) = self.dir.parent() {
            durable::directory(parent, passage, None)?;
        }
        durable::directory(&self.dir, passage, None)?;
        durable::directory(&self.run(), 0o700, user)?;
        let port = self.port(fresh)?;
        self.make_data(programs, user).await?;
        self.configure(port, user).await?;
        self.forget_stale_pid()?;

        let text = |path: &Path| path.display().to_string();
        let config = format!("config_file={}", text(&self.dir.join("postgresql.conf")));
        Ok(ServerSpec {
            name: self.name.clone(),
            program: programs.bin.join("postgres"),
            args: vec!["-D".into(), text(&self.data()), "-c".into(), config],
            cwd: self.data(),
            env: environment(),
            user: user.cloned(),
            // "Fast": sessions are cut off rather than waited for.
            stop_signal: ServerSignal::Interrupt,
            stop_grace: Duration::from_secs(60),
        })
    }

    /// Keeps what the server calls itself, for those who look while it does not run.
    pub(super) fn set_version(&self, version: &str) -> Result<(), ServiceError> {
        match self.record()? {
            Some(mut record) if record.version.as_deref() != Some(version) => {
                record.version = Some(version.to_owned());
                record.save(&self.record_file())
            }
            _ => Ok(()),
        }
    }

    /// The port that it has, or a new one, which it then keeps.
    fn port(&self, fresh: bool) -> Result<u16, ServiceError> {
        let file = self.record_file();
        let record = ServerRecord::load(&file)?;
        let is_running = self.data().join("postmaster.pid").exists();
        if let Some(record) = record
            && (!fresh || is_running || is_free(record.port))
        {
            self.check_socket(record.port)?;
            return Ok(record.port);
        }
        let port = free_port().map_err(durable::failed(&file))?;
        self.check_socket(port)?;
        let record = ServerRecord {
            port,
            version: None,
        };
        record.save(&file)?;
        Ok(port)
    }

    fn check_socket(&self, port: u16) -> Result<(), ServiceError> {
        let path = self.run().join(format!(".s.PGSQL.{port}"));
        let length = path.as_os_str().len();
        if length <= LONGEST_SOCKET {
            return Ok(());
        }
        let why = format!(
            "the path of a socket has at most {LONGEST_SOCKET} bytes, and this one has {length}: \
             a shorter data directory is needed"
        );
        Err(durable::failed(&path)(io::Error::new(
            ErrorKind::InvalidFilename,
            why,
        )))
    }

    /// Lets `initdb` fill a directory of another name, and gives it its name when it is complete.
    async fn make_data(
        &self,
        programs: &Programs,
        user: Option<&ServerUser>,
    ) -> Result<(), ServiceError> {
        self.sweep().await;
        let data = self.data();
        if data.exists() {
            let file = data.join("PG_VERSION");
            let version = durable::read(&file)?.unwrap_or_default();
            if version.trim() != self.major.to_string() {
                return Err(ServiceError::Damaged {
                    path: file,
                    source: format!("it is not the data of version {}", self.major).into(),
                });
            }
            return Ok(());
        }
        let partial = self
            .dir
            .join(format!("{PARTIAL}{}", new_password().expose_secret()));
        durable::directory(&partial, 0o700, user)?;
        let mut initdb = Command::new(programs.bin.join("initdb"));
        initdb
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"])
            .args(["--auth-local=peer", "--auth-host=scram-sha-256"])
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pgdata")
            .arg(&partial)
            .current_dir(&partial);
        run(initdb, "initdb", user).await?;
        fs::rename(&partial, &data).map_err(durable::failed(&data))?;
        durable::sync_parent(&data).map_err(durable::failed(&data))
    }

    /// Removes what an interrupted `initdb` left. The server that it had started to fill it may
    /// still be about to die.
    async fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        let is_partial = |name: &OsStr| name.as_encoded_bytes().starts_with(PARTIAL.as_bytes());
        let leftovers = entries.flatten().filter(|one| is_partial(&one.file_name()));
        for leftover in leftovers.map(|one| one.path()) {
            let deadline = Instant::now() + DYING;
            while let Err(error) = fs::remove_dir_all(&leftover) {
                match error.kind() {
                    ErrorKind::NotFound => break,
                    // It is being filled.
                    ErrorKind::DirectoryNotEmpty if Instant::now() < deadline => {
                        sleep(Duration::from_millis(20)).await;
                    }
                    _ => {
                        tracing::warn!(%error, path = %leftover.display(), "a leftover stays");
                        break;
                    }
                }
            }
        }
    }

    async fn configure(&self, port: u16, user: Option<&ServerUser>) -> Result<(), ServiceError> {
        let own = match user {
            Some(user) => user.name.clone(),
            None => own_name().await?,
        };
        let superusers: &[&str] = if geteuid().is_root() {
            &["root", &own]
        } else {
            &[&own]
        };
        let (data, run) = (self.data(), self.run());
        let config = Config {
            data: &data,
            run: &run,
            dir: &self.dir,
            port,
            superusers,
        };
        let settings = config.postgresql(Tuning::of_this_machine());
        durable::write_for(&config.postgresql_file(), &settings, user)?;
        durable::write_for(&config.hba_file(), &config.hba(), user)?;
        durable::write_for(&config.ident_file(), &config.ident(), user)
    }

    /// After a reboot the id in a server's lock file may be another process's, for which the
    /// server would take it for running and refuse to start.
    fn forget_stale_pid(&self) -> Result<(), ServiceError> {
        let file = self.data().join("postmaster.pid");
        let Some(text) = durable::read(&file)? else {
            return Ok(());
        };
        let pid: Option<u32> = text.lines().next().and_then(|pid| pid.trim().parse().ok());
        // A server lives in its data directory. With one that has ended it gets along itself.
        let is_anothers = pid.is_some_and(|pid| {
            fs::read_link(format!("/proc/{pid}/cwd"))
                .is_ok_and(|cwd| fs::canonicalize(self.data()).is_ok_and(|data| data != cwd))
        });
        if is_anothers {
            durable::remove(&file)?;
        }
        Ok(())
    }

    fn record_file(&self) -> PathBuf {
        self.dir.join("server.toml")
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn run(&self) -> PathBuf {
        self.dir.join("run")
    }
}

const PARTIAL: &str = ".data-";

/// What the server's programs get: the same on every machine, whoever starts this program.
fn environment() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("LC_ALL".into(), "C.UTF-8".into()),
        ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
    ])
}

/// Runs one of the server's tools to its end, as the server's user.
async fn run(
    mut command: Command,
    tool: &str,
    user: Option<&ServerUser>,
) -> Result<(), ServiceError> {
    command
        .env_clear()
        .envs(environment())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(user) = user {
        // As root this leaves root's other groups behind, too.
        command.uid(user.uid).gid(user.gid);
    }
    let failed = |output, source| ServiceError::Tool {
        tool: tool.to_owned(),
        output,
        source,
    };
    let ran = command.output().await;
    let ran = ran.map_err(|error| failed(Vec::new(), error.into()))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    let last = lines[lines.len().saturating_sub(20)..].to_vec();
    Err(failed(last, ran.status.to_string().into()))
}

/// The login name of the user of this program.
async fn own_name() -> Result<String, ServiceError> {
    let failed = |source| ServiceError::Tool {
        tool: "id".into(),
        output: Vec::new(),
        source,
    };
    let said = Command::new("id")
        .arg("-un")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.into()))?;
    if !said.status.success() {
        return Err(failed("this program's user has no name".into()));
    }
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}
