use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};

use crate::beneath::{is_another, open};

/// How many directories are open at a time: a process may often have no more than 1024 files.
const MOST_OPEN: usize = 32;
/// What a directory's owner needs to list it, and to remove what is in it.
const WHOLE: u32 = 0o700;

/// Deletes what is at `path`: a directory with all that is in it, also where directories are
/// read-only, or a file, or a link. That nothing is there is fine.
///
/// It is meant for trees that belong to somebody else, who may change them meanwhile: no link is
/// followed below the directory that `path` is in, and a tree may be as deep as it likes, for
/// neither the stack nor the number of open files grows with it.
///
/// Blocks for as long as it takes: in async code call it through `spawn_blocking`. Idempotent; two
/// calls at a time for one tree do not harm each other.
///
/// # Errors
///
/// When something can't be deleted, or a directory is moved or filled again meanwhile. Part of the
/// tree is gone then.
pub fn delete_tree(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(parent) {
        Ok(parent) => delete_beneath(&parent, name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes what is called `name` in an open directory.
pub(crate) fn delete_beneath(parent: &File, name: &OsStr) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    let Some(mut here) = Level::enter(parent.as_fd(), &name)? else {
        return Ok(());
    };
    let mut above: Vec<Waiting> = Vec::new();
    loop {
        if let Some(below) = here.next_below()? {
            above.push(std::mem::replace(&mut here, below).wait());
            if let Some(far) = above.len().checked_sub(MOST_OPEN + 1) {
                above[far].entries = None;
            }
            continue;
        }
        let Some(waiting) = above.pop() else {
            return remove(parent.as_fd(), &here.name, AtFlags::REMOVEDIR);
        };
        let next = waiting.resume(&here)?;
        remove(next.entries.fd()?, &here.name, AtFlags::REMOVEDIR)?;
        here = next;
    }
}

/// A directory that is being emptied.
struct Level {
    /// Its name in the directory above.
    name: CString,
    identity: Identity,
    entries: Dir,
}

/// A directory that is left for one in it.
struct Waiting {
    name: CString,
    identity: Identity,
    /// Nothing where too many would be open.
    entries: Option<Dir>,
}

/// Which directory it is, whatever it is called.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Level {
    /// Opens the directory `name`. What is no directory is removed, and nothing to enter.
    fn enter(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Level>> {
        match open_whole(parent, name) {
            Ok((identity, directory)) => Ok(Some(Level {
                name: name.to_owned(),
                identity,
                entries: Dir::new(OwnedFd::from(directory))?,
            })),
            Err(error) if is_another(&error) => {
                remove(parent, name, AtFlags::empty())?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes files and links up to the next directory, and enters that. Nothing when all was read.
    fn next_below(&mut self) -> io::Result<Option<Level>> {
        while let Some(entry) = self.entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let directory = self.entries.fd()?;
            match entry.file_type() {
                // Not every file system tells.
                FileType::Directory | FileType::Unknown => {
                    if let Some(below) = Level::enter(directory, name)? {
                        return Ok(Some(below));
                    }
                }
                _ => remove(directory, name, AtFlags::empty())?,
            }
        }
        Ok(None)
    }

    fn wait(self) -> Waiting {
        Waiting {
            name: self.name,
            identity: self.identity,
            entries: Some(self.entries),
        }
    }
}

impl Waiting {
    /// Goes on where `below`, which is in it, was entered.
    fn resume(self, below: &Level) -> io::Result<Level> {
        let entries = match self.entries {
            Some(entries) => entries,
            None => {
                let (identity, directory) = open_whole(below.entries.fd()?, c"..")?;
                if identity != self.identity {
                    // Never up into what was not come from.
                    return Err(io::Error::other(
                        "a directory was moved while it was deleted",
                    ));
                }
                Dir::new(OwnedFd::from(directory))?
            }
        };
        Ok(Level {
            name: self.name,
            identity: self.identity,
            entries,
        })
    }
}

/// Opens a directory, and lets its owner, which may be this user, do with it what it takes.
fn open_whole(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<(Identity, File)> {
    let directory: File = match open(parent, name, OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(parent, name)?;
            open(parent, name, OFlags::DIRECTORY)?
        }
        opened => opened?,
    }
    .into();
    let metadata = directory.metadata()?;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if is_own && metadata.mode() & WHOLE != WHOLE {
        directory.set_permissions(Permissions::from_mode(WHOLE))?;
    }
    let identity = Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
    };
    Ok((identity, directory))
}

/// Makes a directory readable that its owner has closed to itself; never what a link leads to.
#[cfg(target_os = "linux")]
fn open_up(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    // What can't be opened for reading has no mode to set through: only its place has.
    let place = open(parent, name, OFlags::PATH | OFlags::DIRECTORY)?;
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    std::fs::set_permissions(path, Permissions::from_mode(WHOLE))
}

/// As on Linux, where `chmod` itself can't be told not to follow a link.
#[cfg(not(target_os = "linux"))]
fn open_up(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    use rustix::fs::Mode;

    Ok(rustix::fs::chmodat(
        parent,
        name,
        Mode::RWXU,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Removes one name; that it has gone by itself is fine.
fn remove(directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, flags) {
        Err(error) if error != rustix::io::Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{Mode, mkdirat};

    use super::*;

    /// Makes directories in each other, and files between them; gives the path of the first.
    fn make_deep(at: &Path, depth: usize) {
        fs::create_dir(at).unwrap();
        let mut here = File::open(at).unwrap();
        for level in 0..depth {
            for name in ["a", "d", "z"] {
                mkdirat(&here, name, Mode::RWXU).unwrap();
            }
            let flags = OFlags::CREATE | OFlags::WRONLY;
            rustix::fs::openat(&here, format!("{level}"), flags, Mode::RUSR).unwrap();
            here = open(&here, "d", OFlags::DIRECTORY).unwrap().into();
        }
    }

    #[test]
    fn no_tree_is_too_deep() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        make_deep(&tree, 3_000);
        // A thread's stack is what a recursion would fill first, or else the table of open files.
        let deleting = std::thread::Builder::new().stack_size(128 << 10);
        let path = tree.clone();
        let deleted = deleting.spawn(move || delete_tree(&path)).unwrap().join();
        deleted.unwrap().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        delete_tree(&tree).unwrap();
        delete_tree(&tree.join("a/b")).unwrap();
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        let mode = Permissions::from_mode(0o500);
        fs::set_permissions(&other, mode.clone()).unwrap();
        for link in ["link", "a/link", "a/b/link"] {
            symlink(&other, tree.join(link)).unwrap();
        }
        for path in ["a/b", "a"] {
            fs::set_permissions(tree.join(path), mode.clone()).unwrap();
        }
        delete_tree(&tree).unwrap();
        assert!(!tree.exists());
        symlink(&other, &tree).unwrap();
        delete_tree(&tree).unwrap();
        assert!(!tree.is_symlink());
        assert!(other.join("kept").exists());
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o500);
        fs::set_permissions(&other, Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn what_its_owner_may_not_enter_goes() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        for path in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(tree.join(path), Permissions::from_mode(0o000)).unwrap();
        }
        delete_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_directory_that_was_moved_is_not_gone_up_from() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tree/a/b")).unwrap();
        fs::create_dir(dir.path().join("other")).unwrap();
        let tree = File::open(dir.path().join("tree")).unwrap();
        let enter = |name| Level::enter(tree.as_fd(), name).unwrap().unwrap();
        let below = Level::enter(enter(c"a").entries.fd().unwrap(), c"b");
        let below = below.unwrap().unwrap();
        let far = || Waiting {
            entries: None,
            ..enter(c"a").wait()
        };
        assert!(far().resume(&below).is_ok());
        let moved = dir.path().join("other/b");
        fs::rename(dir.path().join("tree/a/b"), moved).unwrap();
        assert!(far().resume(&below).is_err());
    }
}
