use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode};

use crate::beneath::{self, is_another};
use crate::delete::delete_beneath;
use crate::{Owner, ReleaseError, ReleaseId};

/// What became of the files of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// Files and links that were not there.
    pub added: u64,
    /// Those that were there, and were others.
    pub changed: u64,
    /// Those that were there already; they keep their times.
    pub unchanged: u64,
    /// Those of an earlier source that this one lacks.
    pub removed: u64,
    /// The names of the files at the source's root.
    pub root_files: BTreeSet<OsString>,
}

/// Brings a source, which lies in a directory that nobody else can enter, into a tree that somebody
/// else owns and may change at any moment.
///
/// Three rules keep that user from leading this process astray. A directory of the tree is entered
/// by one name at a time from one that is open, never through a link. A file gets there by a rename,
/// and goes by an unlink, neither of which follows one. And what is there already is only read:
/// owner and mode are given to files before they get there, and to directories that this process has
/// just made.
pub(crate) struct Sync<'a> {
    pub(crate) id: ReleaseId,
    pub(crate) source: File,
    pub(crate) tree: File,
    /// Where the tree is, for errors.
    pub(crate) path: &'a Path,
    /// To whom what is in the tree belongs.
    pub(crate) uid: u32,
    /// To whom it must be given.
    pub(crate) owner: Option<Owner>,
    pub(crate) cancelled: &'a AtomicBool,
}

impl Sync<'_> {
    /// The files and links of the source.
    pub(crate) fn files(&self) -> Result<BTreeSet<PathBuf>, ReleaseError> {
        let mut files = BTreeSet::new();
        self.collect(&self.source, Path::new(""), &mut files)?;
        Ok(files)
    }

    fn collect(
        &self,
        directory: &File,
        path: &Path,
        files: &mut BTreeSet<PathBuf>,
    ) -> Result<(), ReleaseError> {
        for name in beneath::names(directory).map_err(self.io("read", path))? {
            let path = path.join(&name);
            match beneath::kind(directory, &name).map_err(self.io("read", &path))? {
                FileType::Directory => {
                    let child = beneath::open_directory(directory, &name);
                    self.collect(&child.map_err(self.io("open", &path))?, &path, files)?;
                }
                _ => drop(files.insert(path)),
            }
        }
        Ok(())
    }

    /// Removes what is `old` and not `new`, and brings in the source.
    pub(crate) fn run(
        &self,
        old: &BTreeSet<PathBuf>,
        new: &BTreeSet<PathBuf>,
    ) -> Result<Synced, ReleaseError> {
        let mut synced = Synced::default();
        for path in old.difference(new) {
            self.check_cancelled()?;
            synced.removed += u64::from(self.remove(path)?);
        }
        self.merge(&self.source, &self.tree, Path::new(""), &mut synced)?;
        let at_root = new.iter().filter(|path| path.components().count() == 1);
        synced.root_files = at_root.map(|path| path.as_os_str().to_owned()).collect();
        Ok(synced)
    }

    /// Removes a file of an earlier source, and the directories that are empty without it. Whether
    /// it was there.
    fn remove(&self, path: &Path) -> Result<bool, ReleaseError> {
        let mut parents: Vec<(File, &OsStr)> = Vec::new();
        let mut names: Vec<&OsStr> = path.iter().collect();
        let Some(last) = names.pop() else {
            return Ok(false);
        };
        let mut here = self.tree.try_clone().map_err(self.io("open", path))?;
        for name in names {
            match beneath::open_directory(&here, name) {
                Ok(child) => parents.push((std::mem::replace(&mut here, child), name)),
                // What is there instead is none of the source.
                Err(error) if is_another(&error) => return Ok(false),
                Err(error) => return Err(self.io("open", path)(error)),
            }
        }
        match rustix::fs::unlinkat(&here, last, AtFlags::empty()).map_err(io::Error::from) {
            Ok(()) => {}
            // A directory that a build has made in its place.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Ok(false),
            Err(error) if is_another(&error) => return Ok(false),
            Err(error) => return Err(self.io("remove", path)(error)),
        }
        for (parent, name) in parents.into_iter().rev() {
            // Not empty, most often.
            if rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
        }
        Ok(true)
    }

    fn merge(
        &self,
        source: &File,
        tree: &File,
        path: &Path,
        synced: &mut Synced,
    ) -> Result<(), ReleaseError> {
        for name in beneath::names(source).map_err(self.io("read", path))? {
            self.check_cancelled()?;
            let path = path.join(&name);
            match beneath::kind(source, &name).map_err(self.io("read", &path))? {
                FileType::Directory => {
                    let from = beneath::open_directory(source, &name);
                    let from = from.map_err(self.io("open", &path))?;
                    let into = self.enter(&from, tree, &name, &path)?;
                    self.merge(&from, &into, &path, synced)?;
                }
                kind => self.bring(source, tree, &name, kind, &path, synced)?,
            }
        }
        Ok(())
    }

    /// The directory `name` of the tree, made if there is none. What stands in its place goes.
    fn enter(
        &self,
        from: &File,
        tree: &File,
        name: &OsStr,
        path: &Path,
    ) -> Result<File, ReleaseError> {
        match beneath::open_directory(tree, name) {
            Ok(directory) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_another(&error) => {
                let removed = rustix::fs::unlinkat(tree, name, AtFlags::empty());
                removed.map_err(|error| self.io("remove", path)(error.into()))?;
            }
            Err(error) => return Err(self.io("open", path)(error)),
        }
        let made = rustix::fs::mkdirat(tree, name, Mode::RWXU);
        made.map_err(|error| self.io("make the directory", path)(error.into()))?;
        let directory = beneath::open_directory(tree, name).map_err(self.io("open", path))?;
        let settle = || {
            let mode = from.metadata()?.mode() & 0o777;
            // Another one would be that of somebody who has replaced it, who can have it.
            if directory.metadata()?.uid() == rustix::process::geteuid().as_raw() {
                if let Some(Owner { uid, gid }) = self.owner {
                    fchown(&directory, Some(uid), Some(gid))?;
                }
                directory.set_permissions(Permissions::from_mode(mode))?;
            }
            Ok(())
        };
        settle().map_err(self.io("set the mode or the owner of", path))?;
        Ok(directory)
    }

    /// Brings a file or a link to its place, unless it is there.
    fn bring(
        &self,
        source: &File,
        tree: &File,
        name: &OsStr,
        kind: FileType,
        path: &Path,
        synced: &mut Synced,
    ) -> Result<(), ReleaseError> {
        let present = match beneath::kind(tree, name) {
            Ok(present) => Some(present),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.io("read", path)(error)),
        };
        let same = match present {
            Some(present) if present == kind => self.is_same(source, tree, name, kind),
            _ => Ok(false),
        };
        if same.map_err(self.io("read", path))? {
            synced.unchanged += 1;
            return Ok(());
        }
        if present == Some(FileType::Directory) {
            delete_beneath(tree, name).map_err(self.io("remove", path))?;
        }
        rustix::fs::renameat(source, name, tree, name)
            .map_err(|error| self.io("write", path)(error.into()))?;
        match present {
            None => synced.added += 1,
            Some(_) => synced.changed += 1,
        }
        Ok(())
    }

    /// Whether what the tree has is what the source has: content, mode, and whose it is.
    fn is_same(
        &self,
        source: &File,
        tree: &File,
        name: &OsStr,
        kind: FileType,
    ) -> io::Result<bool> {
        let unless_another = |error: io::Error| match is_another(&error) {
            true => Ok(false),
            false => Err(error),
        };
        if kind == FileType::Symlink {
            let wanted = beneath::read_link(source, name)?;
            return beneath::read_link(tree, name)
                .map_or_else(unless_another, |is| Ok(is == wanted));
        }
        let wanted = beneath::open_file(source, name)?;
        let is = match beneath::open_file(tree, name) {
            Ok(is) => is,
            // Not even for its owner to read, which may be this user.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
            Err(error) => return unless_another(error),
        };
        let (wants, has) = (wanted.metadata()?, is.metadata()?);
        let alike = has.is_file()
            && has.len() == wants.len()
            && has.mode() & 0o7777 == wants.mode() & 0o7777
            && has.uid() == self.uid
            && has.nlink() == 1;
        Ok(alike && same_content(wanted, is)?)
    }

    fn check_cancelled(&self) -> Result<(), ReleaseError> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(ReleaseError::Cancelled { id: self.id }),
            false => Ok(()),
        }
    }

    fn io(
        &self,
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> ReleaseError + use<> {
        ReleaseError::io(action, self.path.join(path))
    }
}

fn same_content(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut these, mut those) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let read = read_full(&mut one, &mut these)?;
        if read != read_full(&mut other, &mut those)? || these[..read] != those[..read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// Fills the buffer, as far as the file goes.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
