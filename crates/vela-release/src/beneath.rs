//! Files and directories that are opened from an open directory, by one name at a time, and never through a link.
//!
//! Whoever else may write there can rename and replace what they like meanwhile: what was opened stays what it is, and
//! a name that has become a link is an error.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::path::Arg;

/// Opens a directory by its path; of the path itself the last name must not be a link.
pub(crate) fn open_root(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Opens `name`, which is not followed if it is a link.
pub(crate) fn open(directory: impl AsFd, name: impl Arg, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// Opens the directory `name`.
pub(crate) fn open_directory(directory: &File, name: &OsStr) -> io::Result<File> {
    Ok(open(directory, name, OFlags::DIRECTORY)?.into())
}

/// Opens the file `name`, which may have become something else: that is for the caller to see.
pub(crate) fn open_file(directory: &File, name: &OsStr) -> io::Result<File> {
    // Without O_NONBLOCK, a pipe put in the file's place would be waited for.
    Ok(open(directory, name, OFlags::NONBLOCK)?.into())
}

/// What `name` is; a link is a link.
pub(crate) fn kind(directory: &File, name: &OsStr) -> io::Result<FileType> {
    let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

/// What the link `name` points at.
pub(crate) fn read_link(directory: &File, name: &OsStr) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()).into())
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether an error says that what was there a moment ago has gone, or is something else now.
pub(crate) fn is_another(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::LOOP | Errno::NOTDIR | Errno::NOENT | Errno::INVAL)
    )
}
