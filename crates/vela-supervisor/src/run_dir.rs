//! The directory of one instance, `<run dir>/<id>/`, mode 0700:
//!
//! - `lock`: held by the shim for as long as it lives; it inherits the lock, so there is no moment
//!   after its first instruction without it. Also its standard error.
//! - `ctl`: the shim's control socket, bound before the shim starts.
//! - `state`: what runs, written before the program is executed.
//! - `exit`: how it ended.
//!
//! `state` and `exit` are renamed into place and never synced: a reader sees all of a file or none,
//! whoever is killed when. Losing them with the power costs nothing, as no process survives that
//! either, and a `state` of another boot is only ever cleaned away.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdir, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire;

/// Much more than any file here holds.
const LARGEST_FILE: u64 = 1 << 20;

/// An open instance directory. All access goes through the descriptor: nothing that replaces the
/// path can redirect it, and the length of the path does not matter.
#[derive(Debug)]
pub(crate) struct RunDir {
    dir: OwnedFd,
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory of a new instance.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        mkdir(&path, Mode::RWXU)?;
        Self::open(path.clone()).inspect_err(|_| {
            if let Err(error) = rustix::fs::rmdir(&path) {
                tracing::debug!(path = %path.display(), %error, "cannot remove a directory");
            }
        })
    }

    /// Opens a directory that belongs to us.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty())?;
        if fstat(&dir)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to another user",
            ));
        }
        Ok(Self { dir, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the shim's lock and takes it, to hand it down.
    pub(crate) fn make_lock(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let lock = openat(&self.dir, "lock", flags, Mode::RUSR | Mode::WUSR)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock.into())
    }

    /// Whether a shim lives here.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lock = match openat(&self.dir, "lock", flags, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => return Ok(Lock::Missing),
            Err(error) => return Err(error.into()),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock::Free),
            Err(Errno::WOULDBLOCK) => Ok(Lock::Held),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        UnixListener::bind(self.ctl())
    }

    /// Never waits: a shim that does not accept is [`WouldBlock`](io::ErrorKind::WouldBlock), once
    /// its queue is full.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(self.ctl())?)?;
        Ok(socket.into())
    }

    /// Short however long the path is: a socket address holds 107 bytes.
    fn ctl(&self) -> String {
        format!("/proc/self/fd/{}/ctl", self.dir.as_raw_fd())
    }

    /// Writes a file in one step, as seen by readers and by crashes.
    pub(crate) fn write<T: Serialize>(&self, name: &str, body: &T) -> io::Result<()> {
        write_at(&self.dir, name, body)
    }

    /// A descriptor for [`write_at`] in the new process.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.dir.try_clone()
    }

    /// A file's content; `None` when it does not exist.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let Some(content) = self.read_bytes(name)? else {
            return Ok(None);
        };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        wire::decode(&content).map(Some).map_err(invalid)
    }

    /// What the shim wrote to its standard error: why it panicked.
    pub(crate) fn last_words(&self) -> String {
        let said = self.read_bytes("lock").ok().flatten().unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let said = said.trim().lines().next().unwrap_or_default();
        said.chars().filter(|c| !c.is_control()).take(300).collect()
    }

    fn read_bytes(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !FileType::from_raw_mode(fstat(&file)?.st_mode).is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a regular file",
            ));
        }
        let mut content = Vec::new();
        File::from(file)
            .take(LARGEST_FILE)
            .read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Removes the directory and whatever the protocol puts into it. Idempotent; something else in
    /// it is left alone, and is an error.
    pub(crate) fn remove(self) -> io::Result<()> {
        for name in ["state", "state.tmp", "exit", "exit.tmp", "ctl", "lock"] {
            match unlinkat(&self.dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The state of an instance's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The shim lives.
    Held,
    /// The shim is gone.
    Free,
    /// There never was a shim.
    Missing,
}

pub(crate) fn write_at<T: Serialize>(dir: &OwnedFd, name: &str, body: &T) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = openat(dir, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR)?.into();
    file.write_all(&wire::encode(body)?)?;
    Ok(renameat(dir, temporary.as_str(), dir, name)?)
}

/// Locks the run directory itself: one supervisor each. The lock ends with the file.
pub(crate) fn lock_all(run_dir: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = run_dir.join(OsStr::new(LOCK_ALL));
    let lock = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock.into())),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The name of [`lock_all`]'s file, which no instance can have.
pub(crate) const LOCK_ALL: &str = ".lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_full_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path().join("a")).unwrap();
        let listener = dir.listen().unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let waiting = dir.connect().unwrap();
        let error = dir.connect().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(waiting);
    }
}
