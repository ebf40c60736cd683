use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use async_trait::async_trait;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

use crate::{Exec, ExecOutput};

/// How much output that is left in the pipe is read once the command has ended.
const MAX_TAIL: usize = 1024 * 1024;

/// Runs commands as `sh -c COMMAND`, in a process group of their own.
///
/// The whole group is killed when the command ends or when its future is dropped, so a command
/// leaves nothing running unless it makes a session of its own (`setsid`). If the host program
/// itself is killed, a command under way runs on.
///
/// It inherits the environment, the directory and the user of the host program, except for what
/// is set here.
#[derive(Clone, Default)]
pub struct ShellExec {
    directory: Option<PathBuf>,
    env: BTreeMap<OsString, OsString>,
}

impl ShellExec {
    /// Runs commands in the host program's own directory and environment.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs commands in this directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Adds a variable to the commands' environment. Its value may be a secret: it is not shown
    /// by `Debug`.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }
}

#[async_trait]
impl Exec for ShellExec {
    async fn run(&self, command: &str) -> io::Result<ExecOutput> {
        let (reader, writer) = io::pipe()?;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = &self.directory {
            shell.current_dir(directory);
        }
        let mut output = Output::new(OwnedFd::from(reader))?;
        let mut child = shell.spawn()?;
        // Ours of the pipe's writing ends: the last ones are the command's.
        drop(shell);

        // Dropped before `child` is, so the group is killed while its leader is not yet reaped
        // and its number can't be another's.
        let group = Group::of(&child);
        tokio::select! {
            exited = group.exited() => exited?,
            failed = output.follow() => return Err(failed),
        }
        // What the command left behind goes with it, and it must go before the leader is reaped.
        drop(group);
        output.read_rest()?;
        let status = child.wait().await?;
        Ok(ExecOutput {
            status: status.code(),
            signal: status.signal(),
            last_line: output.last_line.finish(),
        })
    }
}

impl fmt::Debug for ShellExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShellExec")
            .field("directory", &self.directory)
            .field("env", &self.env.keys())
            .finish()
    }
}

/// A process group whose leader is our child; killed when dropped, which must be before the
/// leader is reaped.
#[derive(Debug)]
struct Group {
    leader: Pid,
}

impl Group {
    fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Self {
            leader: leader.expect("a child that was not waited for has an id"),
        }
    }

    /// Waits until the leader has ended, without reaping it. The thread that waits does so to
    /// the end even if this is dropped: it is not far when the group is killed.
    async fn exited(&self) -> io::Result<()> {
        let leader = pidfd_open(self.leader, PidfdFlags::empty())?;
        spawn_blocking(move || {
            loop {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                match waitid(WaitId::PidFd(leader.as_fd()), options) {
                    Err(Errno::INTR) => {}
                    ended => return ended.map(drop).map_err(io::Error::from),
                }
            }
        })
        .await?
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The only error there can be is that all of it is gone already.
        kill_process_group(self.leader, Signal::KILL).ok();
    }
}

/// What the command writes.
#[derive(Debug)]
struct Output {
    pipe: pipe::Receiver,
    last_line: LastLine,
}

impl Output {
    fn new(reader: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            pipe: pipe::Receiver::from_owned_fd(reader)?,
            last_line: LastLine::default(),
        })
    }

    /// Reads as long as the command runs. Comes back only with an error.
    async fn follow(&mut self) -> io::Error {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer).await {
                // Closed, but the command may go on without output.
                Ok(0) => std::future::pending().await,
                Ok(n) => self.last_line.push(&buffer[..n]),
                Err(error) => return error,
            }
        }
    }

    /// Reads what is left. Not to the pipe's end: a process that escaped may hold it open.
    fn read_rest(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let mut left = MAX_TAIL;
        while left > 0 {
            match rustix::io::read(self.pipe.as_fd(), &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(n) => {
                    self.last_line.push(&buffer[..n]);
                    left = left.saturating_sub(n);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Keeps the last line that is not blank, and no more than the begin of it.
#[derive(Debug, Default)]
struct LastLine {
    complete: Vec<u8>,
    current: Vec<u8>,
}

impl LastLine {
    const LONGEST: usize = 1024;

    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = Self::LONGEST - self.current.len();
            self.current
                .extend(piece.iter().filter(|&&byte| byte != b'\n').take(room));
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn finish(mut self) -> Option<String> {
        self.end_line();
        (!self.complete.is_empty()).then(|| String::from_utf8_lossy(&self.complete).into_owned())
    }

    fn end_line(&mut self) {
        if !self.current.trim_ascii().is_empty() {
            std::mem::swap(&mut self.complete, &mut self.current);
        }
        self.current.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_line(pieces: &[&[u8]]) -> Option<String> {
        let mut line = LastLine::default();
        for piece in pieces {
            line.push(piece);
        }
        line.finish()
    }

    #[test]
    fn the_last_line_that_is_not_blank() {
        assert_eq!(
            last_line(&[b"one\ntw", b"o\n", b"\n  \n"]).as_deref(),
            Some("two")
        );
        assert_eq!(last_line(&[b"one\ntwo"]).as_deref(), Some("two"));
        assert_eq!(last_line(&[b"\n"]), None);
        assert_eq!(last_line(&[]), None);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = vec![b'x'; 10_000];
        assert_eq!(last_line(&[&long, &long]).unwrap().len(), LastLine::LONGEST);
    }

    #[test]
    fn debug_shows_no_values() {
        let exec = ShellExec::new().env("TOKEN", "hunter2");
        let debug = format!("{exec:?}");
        assert!(
            debug.contains("TOKEN") && !debug.contains("hunter2"),
            "{debug}"
        );
    }
}
