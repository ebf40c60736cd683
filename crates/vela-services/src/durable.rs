//! Files that survive a crash: the old one or the new one is there, whole.
//!
//! All of it blocks, and none of it waits for anything but the disk: inside an `async fn` there is
//! no point where a dropped future could leave a write half done.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use crate::{ServerUser, ServiceError};

/// Replaces `path` by `contents`, with this mode from the start; synced. Each path has one writer
/// at a time, so a leftover of a crash is overwritten by the next write.
pub(crate) fn write(path: &Path, contents: &str, mode: u32) -> Result<(), ServiceError> {
    replace(path, contents, mode, None).map_err(failed(path))
}

/// The same for a file that `reader`, if there is one, may read and not write. Nothing is written
/// if it is as it should be.
pub(crate) fn write_for(
    path: &Path,
    contents: &str,
    reader: Option<&ServerUser>,
) -> Result<(), ServiceError> {
    if read(path)?.as_deref() == Some(contents) {
        return Ok(());
    }
    replace(path, contents, 0o640, reader).map_err(failed(path))
}

/// The contents of a file that may be missing.
pub(crate) fn read(path: &Path) -> Result<Option<String>, ServiceError> {
    match fs::read_to_string(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Removes a file, which may be missing, for good.
pub(crate) fn remove(path: &Path) -> Result<(), ServiceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path)(error)),
        Ok(()) => sync_parent(path).map_err(failed(path)),
    }
}

/// Sees to it that the directory is there, with its parents, and is `user`'s, with this mode.
/// Parents that are made are private unless `user` has to pass.
pub(crate) fn directory(
    path: &Path,
    mode: u32,
    user: Option<&ServerUser>,
) -> Result<(), ServiceError> {
    let make = || {
        DirBuilder::new().recursive(true).mode(mode).create(path)?;
        let is = fs::metadata(path)?;
        if let Some(user) = user
            && (is.uid(), is.gid()) != (user.uid, user.gid)
        {
            chown(path, Some(user.uid), Some(user.gid))?;
        }
        if is.mode() & 0o7777 != mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    make().map_err(failed(path))
}

/// Makes the entry of `path` in its directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// What a failure of the system at `path` is for the caller.
pub(crate) fn failed(path: &Path) -> impl FnOnce(io::Error) -> ServiceError {
    let path = path.to_owned();
    move |source| ServiceError::Io { path, source }
}

fn replace(path: &Path, contents: &str, mode: u32, reader: Option<&ServerUser>) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = path.with_file_name(temporary);
    // Removed first, so that the mode given to `open` is the mode it gets.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    if let Some(reader) = reader {
        std::os::unix::fs::fchown(&file, None, Some(reader.gid))?;
    }
    file.write_all(contents.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_private_whole_and_survives_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(dir.path().join(".a.toml.new"), "half a fi").unwrap();
        write(&path, "one", 0o600).unwrap();
        write(&path, "two", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_gets_its_mode_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        directory(&path, 0o711, None).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        directory(&path, 0o711, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o711);
    }
}
