use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::signals::handle_ignored;
use super::tree::Tree;
use crate::{ServerSignal, ServerSpec, ServerState};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that ran for so long does not crash at every start.
const STABLE: Duration = Duration::from_secs(10);

/// One server, and the task that starts it again.
///
/// Everything that changes it happens under one lock without waiting, so there is nothing that a
/// dropped future could leave half done.
#[derive(Debug)]
pub(super) struct Server {
    log: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    spec: Option<ServerSpec>,
    /// Whether it is to run.
    wanted: bool,
    running: Option<Running>,
    keeper: Option<AbortHandle>,
    restarts: u64,
    last_exit: Option<String>,
    /// Whether it runs, for those that wait for its end.
    runs: watch::Sender<bool>,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    /// Signals go here: the id may be another's by the time they are sent.
    handle: OwnedFd,
}

impl Server {
    pub(super) fn new(log: PathBuf) -> Self {
        let inner = Inner {
            spec: None,
            wanted: false,
            running: None,
            keeper: None,
            restarts: 0,
            last_exit: None,
            runs: watch::Sender::new(false),
        };
        Self {
            log,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Starts it unless it runs. A pause before the next start ends now.
    pub(super) fn keep(&self, spec: &ServerSpec) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.spec = Some(spec.clone());
        if inner.running.is_some() {
            inner.wanted = true;
            return Ok(());
        }
        inner.leave();
        // One that is wanted has ended by itself.
        let again = std::mem::take(&mut inner.wanted);
        let child = inner.start(spec, &self.log)?;
        inner.wanted = true;
        inner.restarts += u64::from(again);
        let keeper = keep_running(Arc::clone(&self.inner), child, self.log.clone());
        inner.keeper = Some(tokio::spawn(keeper).abort_handle());
        Ok(())
    }

    /// Sends the stop signal; gives the time that it has, and what it has started so far.
    pub(super) fn ask_to_end(&self) -> io::Result<(Duration, Tree)> {
        let mut inner = lock(&self.inner);
        inner.wanted = false;
        let Some(running) = &inner.running else {
            inner.leave();
            return Ok((Duration::ZERO, Tree::default()));
        };
        let tree = Tree::below(running.pid.as_raw_nonzero().get());
        let spec = inner.spec.as_ref();
        let signal = spec.map_or(ServerSignal::Terminate, |spec| spec.stop_signal);
        let grace = spec.map_or(Duration::ZERO, |spec| spec.stop_grace);
        running.send(number(signal))?;
        Ok((grace, tree))
    }

    /// Kills it; gives what it has started.
    pub(super) fn kill(&self) -> io::Result<Tree> {
        let inner = lock(&self.inner);
        let Some(running) = &inner.running else {
            return Ok(Tree::default());
        };
        let tree = Tree::below(running.pid.as_raw_nonzero().get());
        running.send(Signal::KILL)?;
        Ok(tree)
    }

    /// Returns when it does not run.
    pub(super) async fn ended(&self) {
        let mut runs = lock(&self.inner).runs.subscribe();
        // The sender lives as long as `self`.
        runs.wait_for(|runs| !runs).await.ok();
    }

    pub(super) fn signal(&self, signal: ServerSignal) -> io::Result<()> {
        match &lock(&self.inner).running {
            Some(running) => running.send(number(signal)),
            None => Err(io::Error::other("it does not run")),
        }
    }

    pub(super) fn state(&self) -> ServerState {
        let inner = lock(&self.inner);
        ServerState {
            pid: inner
                .running
                .as_ref()
                .map(|running| running.pid.as_raw_nonzero().get().unsigned_abs()),
            restarts: inner.restarts,
            last_exit: inner.last_exit.clone(),
            log: Vec::new(),
        }
    }

    /// Drops the child, which kills it.
    pub(super) fn abandon(&self) {
        lock(&self.inner).leave();
    }
}

impl Inner {
    fn start(&mut self, spec: &ServerSpec, log: &Path) -> io::Result<Child> {
        let child = spawn(spec, log)?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
            .ok_or_else(|| io::Error::other("it ended before it was seen"))?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        self.running = Some(Running { pid, handle });
        self.runs.send_replace(true);
        Ok(child)
    }

    fn leave(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
    }
}

impl Running {
    fn send(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            // It has ended, and is about to be noticed.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }
}

/// Waits for the server's end, and starts it again as long as it is wanted.
async fn keep_running(inner: Arc<Mutex<Inner>>, mut child: Child, log: PathBuf) {
    let mut crashes = 0;
    loop {
        let started = Instant::now();
        let ended = child.wait().await;
        {
            let mut inner = lock(&inner);
            if let Some(running) = inner.running.take() {
                // What it left in its group would hold its files and its port. An empty group,
                // which is the rule, is an error that says nothing.
                kill_process_group(running.pid, Signal::KILL).ok();
            }
            inner.last_exit = Some(match ended {
                Ok(status) => describe(status),
                Err(error) => error.to_string(),
            });
            inner.runs.send_replace(false);
            if !inner.wanted {
                return;
            }
        }
        if started.elapsed() >= STABLE {
            crashes = 0;
        }
        child = loop {
            sleep(pause(crashes)).await;
            crashes += 1;
            let mut inner = lock(&inner);
            // One that `keep` has started meanwhile has a task of its own.
            let is_due = inner.wanted && inner.running.is_none();
            let Some(spec) = inner.spec.clone().filter(|_| is_due) else {
                return;
            };
            match inner.start(&spec, &log) {
                Ok(child) => {
                    inner.restarts += 1;
                    break child;
                }
                Err(error) => inner.last_exit = Some(format!("cannot be started: {error}")),
            }
        };
    }
}

fn pause(crashes: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(2u32.saturating_pow(crashes))
        .min(LONGEST_PAUSE)
}

fn spawn(spec: &ServerSpec, log: &Path) -> io::Result<Child> {
    if let Some(dir) = log.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log)?;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .current_dir(&spec.cwd)
        .env_clear()
        .envs(&spec.env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C at this program's terminal is not for the server.
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = &spec.user {
        command.uid(user.uid).gid(user.gid);
    }
    handle_ignored()?;
    command.spawn()
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn number(signal: ServerSignal) -> Signal {
    match signal {
        ServerSignal::Hangup => Signal::HUP,
        ServerSignal::Interrupt => Signal::INT,
        ServerSignal::Terminate => Signal::TERM,
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_at_ten_seconds() {
        let pauses: Vec<_> = (0..9).map(|n| pause(n).as_millis()).collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
