use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use crate::confine::{confined, link_is_confined};
use crate::durable::Unsynced;
use crate::members::{Member, MemberKind, broken, for_each_member};
use crate::printable::printable;
use crate::tree::{Directory, Leaf, Tree};
use crate::{ArchiveError, Limits, Owner, ReleaseError, ReleaseId};

/// Unpacks an archive into an empty directory that only this process knows.
///
/// Two fences stand between a hostile archive and the rest of the disk. Every name is judged
/// before anything is written (`confine`, `tree`); and all writes go through a capability for
/// the one directory, with which the kernel itself resolves no path to its outside.
pub(crate) struct Unpack<'a> {
    pub(crate) id: ReleaseId,
    pub(crate) into: &'a Path,
    pub(crate) limits: Limits,
    pub(crate) owner: Option<Owner>,
    /// Whether all of it must be on disk in the end.
    pub(crate) durable: bool,
    pub(crate) cancelled: &'a AtomicBool,
}

impl Unpack<'_> {
    /// Unpacks everything, and returns once it is on disk if it must be. After an error the directory holds
    /// whatever had been unpacked until then.
    pub(crate) fn run(&self, archive: File) -> Result<(), ReleaseError> {
        self.unpack(archive).map_err(|failure| match failure {
            Failure::Refused(source) => ReleaseError::Refused {
                id: self.id,
                source,
            },
            Failure::Store(error) => error,
        })
    }

    fn unpack(&self, archive: File) -> Result<(), Failure> {
        let opened = Dir::open_ambient_dir(self.into, cap_std::ambient_authority());
        let root = opened.map_err(ReleaseError::io("open", self.into))?;
        let unsynced = Unsynced::below(self.into).map_err(ReleaseError::io("open", self.into))?;
        let mut writer = Writer {
            unpack: self,
            root,
            tree: Tree::new(self.limits.max_files),
            unsynced,
            buffer: vec![0; 128 * 1024],
        };
        let archive = BufReader::with_capacity(128 * 1024, archive);
        for_each_member(archive, self.limits.max_bytes, |member, content| {
            writer.write(member, content)
        })?;
        writer.finish()
    }

    fn check_cancelled(&self) -> Result<(), Failure> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ReleaseError::Cancelled { id: self.id }.into());
        }
        Ok(())
    }

    /// Gives an open file or directory its last mode and owner.
    fn settle(&self, file: &File, mode: u32) -> io::Result<()> {
        if let Some(Owner { uid, gid }) = self.owner {
            fchown(file, Some(uid), Some(gid))?;
        }
        file.set_permissions(Permissions::from_mode(mode))
    }
}

enum Failure {
    Refused(ArchiveError),
    Store(ReleaseError),
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        Self::Refused(error)
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        Self::Store(error)
    }
}

struct Writer<'a> {
    unpack: &'a Unpack<'a>,
    root: Dir,
    tree: Tree,
    unsynced: Unsynced,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, member: Member, content: &mut dyn Read) -> Result<(), Failure> {
        self.unpack.check_cancelled()?;
        let name = confined(&member.name)?;
        if member.mode & 0o6000 != 0 && !matches!(member.kind, MemberKind::Symlink(_)) {
            return Err(ArchiveError::SetId {
                name: printable(&name),
            }
            .into());
        }
        match &member.kind {
            MemberKind::Directory => {
                let missing = self.tree.add_directory(&name, member.mode)?;
                self.make_directories(&missing)?;
            }
            MemberKind::File => {
                let missing = self.tree.add(&name, Leaf::File)?;
                self.make_directories(&missing)?;
                self.write_file(&name, &member, content)?;
            }
            MemberKind::Symlink(target) => {
                if !link_is_confined(&name, target) {
                    let (name, target) = (printable(&name), printable(target));
                    return Err(ArchiveError::UnsafeLink { name, target }.into());
                }
                let missing = self.tree.add(&name, Leaf::Symlink)?;
                self.make_directories(&missing)?;
                self.root
                    .symlink(target, &name)
                    .map_err(self.io("make the link", &name))?;
            }
            MemberKind::HardLink(target) => {
                let existing = confined(target)
                    .ok()
                    .filter(|target| self.tree.has_file(target));
                let Some(existing) = existing else {
                    let (name, target) = (printable(&name), printable(target));
                    return Err(ArchiveError::UnsafeHardLink { name, target }.into());
                };
                let missing = self.tree.add(&name, Leaf::File)?;
                self.make_directories(&missing)?;
                self.root
                    .hard_link(existing, &self.root, &name)
                    .map_err(self.io("make the link", &name))?;
            }
        }
        Ok(())
    }

    /// Makes directories for the time of unpacking; `finish` gives them their modes.
    fn make_directories(&self, missing: &[PathBuf]) -> Result<(), Failure> {
        for path in missing {
            self.root
                .create_dir(path)
                .map_err(self.io("make the directory", path))?;
        }
        Ok(())
    }

    fn write_file(
        &mut self,
        name: &Path,
        member: &Member,
        content: &mut dyn Read,
    ) -> Result<(), Failure> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let opened = self.root.open_with(name, &options);
        let mut file = opened.map_err(self.io("create", name))?.into_std();
        let mut left = member.size;
        while left > 0 {
            self.unpack.check_cancelled()?;
            let read = match content.read(&mut self.buffer) {
                Ok(0) => return Err(ArchiveError::Truncated.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error).into()),
            };
            file.write_all(&self.buffer[..read])
                .map_err(self.io("write", name))?;
            left = left.saturating_sub(read as u64);
        }
        let settled = self.unpack.settle(&file, member.mode & 0o777);
        settled.map_err(self.io("set the mode or the owner of", name))?;
        let failed = self.io("sync", name);
        self.unsynced.push(file).map_err(failed)?;
        Ok(())
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.tree.has_no_files() {
            return Err(ArchiveError::Empty.into());
        }
        let tree = std::mem::replace(&mut self.tree, Tree::new(0));
        self.settle_directories(&mut PathBuf::new(), tree.root())?;
        self.unpack.check_cancelled()?;
        if !self.unpack.durable {
            return Ok(());
        }
        self.unsynced
            .sync()
            .map_err(ReleaseError::io("sync", self.unpack.into))?;
        Ok(())
    }

    /// Innermost first: a directory that no longer allows it is not entered again.
    fn settle_directories(&mut self, path: &mut PathBuf, node: &Directory) -> Result<(), Failure> {
        for (name, child) in node.directories() {
            path.push(name);
            self.settle_directories(path, child)?;
            path.pop();
        }
        let here = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path.as_path()
        };
        let directory = self
            .root
            .open(here)
            .map_err(self.io("open", here))?
            .into_std();
        let settled = self.unpack.settle(&directory, node.mode());
        settled.map_err(self.io("set the mode or the owner of", here))?;
        let failed = self.io("sync", here);
        self.unsynced.push(directory).map_err(failed)?;
        Ok(())
    }

    fn io(
        &self,
        action: &'static str,
        name: &Path,
    ) -> impl FnOnce(io::Error) -> ReleaseError + use<> {
        ReleaseError::io(action, self.unpack.into.join(name))
    }
}
