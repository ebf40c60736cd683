use std::fs::{File, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use vela_control::{Client, UnixTransport};
use vela_protocol::Report;

use crate::failure::Failure;

/// How long the daemon may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to stop its apps and itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often another port is tried, in case another program takes a free one before the daemon does.
const ATTEMPTS: usize = 3;

/// What the daemon must not inherit: it is the demo's, however this user's own is set up.
const FOREIGN: [&str; 4] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// A real daemon in a directory of its own.
#[derive(Debug)]
pub(super) struct Daemon {
    /// The program that it and its app run: this one.
    pub(super) program: PathBuf,
    /// Where its HTTP port is.
    pub(super) addr: SocketAddr,
    /// Its API.
    pub(super) client: Client,
    /// Its control socket.
    pub(super) socket: PathBuf,
    child: Child,
    dir: TempDir,
}

impl Daemon {
    /// Starts it and waits until it answers.
    pub(super) async fn start() -> Result<Daemon, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::because("cannot find this program's file", &error))?;
        let dir = tempfile::Builder::new()
            .prefix("vela-demo-")
            .tempdir()
            .map_err(|error| Failure::because("cannot make a temporary directory", &error))?;
        let mut attempt = 1;
        loop {
            let port =
                free_port().map_err(|error| Failure::because("cannot find a free port", &error))?;
            write_config(dir.path(), port)?;
            let mut child = spawn(&program, dir.path())?;
            let socket = dir.path().join("vela.sock");
            let client = Client::new(Arc::new(UnixTransport::new(&socket)));
            match ready(&client, &mut child).await {
                Ok(()) => {
                    return Ok(Daemon {
                        program,
                        addr: (Ipv4Addr::LOCALHOST, port).into(),
                        client,
                        socket,
                        child,
                        dir,
                    });
                }
                Err(status) if attempt == ATTEMPTS => return Err(not_started(status, dir.path())),
                Err(_) => attempt += 1,
            }
        }
    }

    /// A directory for the demo's own files.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the app and the daemon, and removes the directory.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        // A daemon that died left its apps running: another one finds them, and stops them.
        let died = match self.child.try_wait() {
            Ok(Some(status)) => {
                let message = format!("the daemon died during the demo: {status}");
                Some(with_log(message, self.dir.path()))
            }
            _ => None,
        };
        if died.is_some() {
            self.child = spawn(&self.program, self.dir.path())?;
            if let Err(status) = ready(&self.client, &mut self.child).await {
                return Err(self.keep(not_started(status, self.dir.path())));
            }
        }
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)
                .map_err(|error| Failure::because("cannot stop the demo's daemon", &error))?;
        }
        match timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => {
                let failure = Failure::new(format!("the demo's daemon ended with {status}"));
                return Err(self.keep(failure));
            }
            Ok(Err(error)) => return Err(Failure::because("cannot await the daemon", &error)),
            Err(_) => {
                let failure = format!("the demo's daemon did not stop within {STOP_TIMEOUT:?}");
                return Err(self.keep(Failure::new(failure)));
            }
        }
        let dir = self.dir.path().display().to_string();
        make_writable(self.dir.path())
            .and_then(|()| self.dir.close())
            .map_err(|error| Failure::because(format!("cannot remove {dir}"), &error))?;
        died.map_or(Ok(()), Err)
    }

    /// Leaves the directory for whoever looks into what went wrong.
    fn keep(&mut self, failure: Failure) -> Failure {
        self.dir.disable_cleanup(true);
        let log = log_file(self.dir.path());
        failure.with_hint(format!("the daemon's log is in {}", log.display()))
    }
}

fn write_config(dir: &Path, port: u16) -> Result<(), Failure> {
    let path = |name: &str| toml::Value::String(dir.join(name).display().to_string());
    let config = format!(
        "data_dir = {data}\nsocket = {socket}\n\n\
         [proxy]\nbind = \"127.0.0.1\"\nhttp_port = {port}\n\n\
         # No system users: the demo leaves nothing behind.\n[apps]\nisolate = false\n",
        data = path("data"),
        socket = path("vela.sock"),
    );
    std::fs::write(dir.join("server.toml"), config)
        .map_err(|error| Failure::because("cannot write the daemon's configuration", &error))
}

fn spawn(program: &Path, dir: &Path) -> Result<Child, Failure> {
    let failed = |error: io::Error| Failure::because("cannot start the demo's daemon", &error);
    let log = File::create(log_file(dir)).map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--stop-apps", "--config"])
        .arg(dir.join("server.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        // Ctrl-C reaches the demo alone, which then stops the daemon in order.
        .process_group(0)
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("VELA_") || FOREIGN.contains(&name))
        {
            command.env_remove(name);
        }
    }
    command.spawn().map_err(failed)
}

/// Waits for the first answer; the daemon's status if it ends before, nothing if it takes too long.
async fn ready(client: &Client, child: &mut Child) -> Result<(), Option<ExitStatus>> {
    let deadline = Instant::now() + START_TIMEOUT;
    while client.version().await.is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Some(status));
        }
        if Instant::now() > deadline {
            return Err(None);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn not_started(status: Option<ExitStatus>, dir: &Path) -> Failure {
    let message = match status {
        Some(status) => format!("the demo's daemon ended at once with {status}"),
        None => format!("the demo's daemon did not answer within {START_TIMEOUT:?}"),
    };
    with_log(message, dir)
}

/// A failure with the last of what the daemon wrote.
fn with_log(message: String, dir: &Path) -> Failure {
    let log = std::fs::read_to_string(log_file(dir)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.len().saturating_sub(10);
    Failure::from_report(Report {
        message,
        causes: Vec::new(),
        hint: None,
        output: lines[last..].iter().map(ToString::to_string).collect(),
    })
}

/// Releases are sealed: only root could remove what is in them as they are.
fn make_writable(dir: &Path) -> io::Result<()> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // Of the entry itself: links are not followed.
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("daemon.log")
}

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_tree_becomes_writable_and_links_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        std::fs::set_permissions(elsewhere.path(), Permissions::from_mode(0o500)).unwrap();
        let sealed = dir.path().join("releases/one");
        std::fs::create_dir_all(&sealed).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("link")).unwrap();
        std::fs::set_permissions(&sealed, Permissions::from_mode(0o500)).unwrap();
        make_writable(dir.path()).unwrap();
        assert_eq!(mode(&sealed), 0o700);
        assert_eq!(mode(elsewhere.path()), 0o500);
    }
}
