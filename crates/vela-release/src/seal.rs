use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::beneath::open;
use crate::confine::MAX_DEPTH;
use crate::durable::Unsynced;
use crate::{Owner, ReleaseError};

/// The user to whom sealed files belong.
const ROOT: u32 = 0;

/// Makes a release read-only, and what a hook wrote into it durable.
///
/// Until now the release belonged to the app's user, who may still run processes, so this must
/// not be led astray by names that change under its feet: it goes from open directory to entry,
/// follows no link, and takes each directory away from that user before it looks inside.
pub(crate) fn seal(release: &Path, owner: Option<Owner>) -> Result<(), ReleaseError> {
    let failed = |error| ReleaseError::io("open", release)(error);
    let root = File::open(release).map_err(failed)?;
    let mut sealing = Sealing {
        owner,
        unsynced: Unsynced::below(release).map_err(failed)?,
    };
    sealing.directory(root, release, 0)?;
    sealing
        .unsynced
        .sync()
        .map_err(ReleaseError::io("sync", release))
}

struct Sealing {
    owner: Option<Owner>,
    unsynced: Unsynced,
}

impl Sealing {
    /// Two descriptors and a frame of the stack are in use for each level, and a hook may have made as many as it
    /// liked.
    fn directory(
        &mut self,
        directory: File,
        path: &Path,
        depth: usize,
    ) -> Result<(), ReleaseError> {
        if depth > MAX_DEPTH {
            return Err(ReleaseError::TooDeep {
                path: path.to_owned(),
                limit: MAX_DEPTH,
            });
        }
        self.settle(&directory, path)?;
        let read = |error: rustix::io::Errno| ReleaseError::io("read", path)(error.into());
        for entry in Dir::read_from(&directory).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let status = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| ReleaseError::io("read", &path)(error.into()))?;
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Directory => {
                    let opened = open(&directory, name, OFlags::DIRECTORY);
                    let child = opened.map_err(ReleaseError::io("open", &path))?;
                    self.directory(child.into(), &path, depth + 1)?;
                }
                FileType::RegularFile => self.file(&directory, name, &path)?,
                // A link has no mode of its own; nothing else can be in an archive, and what a
                // hook makes of that kind is its own affair.
                _ => {}
            }
        }
        self.unsynced
            .push(directory)
            .map_err(ReleaseError::io("sync", path))
    }

    fn file(&mut self, directory: &File, name: &CStr, path: &Path) -> Result<(), ReleaseError> {
        // Without O_NONBLOCK, a pipe put in the file's place would be waited for.
        match open(directory, name, OFlags::NONBLOCK) {
            Ok(file) => {
                let file = File::from(file);
                self.settle(&file, path)?;
                self.unsynced
                    .push(file)
                    .map_err(ReleaseError::io("sync", path))
            }
            // Not readable even by its owner, which is this user: nobody else is in the way.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && self.owner.is_none() =>
            {
                let sealed = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                    .and_then(|status| {
                        let mode = Mode::from_raw_mode(status.st_mode) & Mode::from_raw_mode(0o555);
                        rustix::fs::chmodat(directory, name, mode, AtFlags::empty())
                    });
                sealed.map_err(|error| ReleaseError::io("seal", path)(error.into()))
            }
            Err(error) => Err(ReleaseError::io("open", path)(error)),
        }
    }

    fn settle(&self, file: &File, path: &Path) -> Result<(), ReleaseError> {
        let metadata = file.metadata().map_err(ReleaseError::io("read", path))?;
        let mode = metadata.mode();
        let Some(owner) = self.owner else {
            let sealed = file.set_permissions(Permissions::from_mode(mode & 0o555));
            return sealed.map_err(ReleaseError::io("seal", path));
        };
        if metadata.uid() != owner.uid {
            // Sealed before; or almost, by a call that was cut short. What else belongs to root
            // may be a file of the system, moved or hard-linked here.
            let ours = metadata.uid() == ROOT && metadata.gid() == owner.gid;
            return match () {
                () if ours && mode & 0o7222 == 0 => Ok(()),
                () if ours && (metadata.is_dir() || metadata.nlink() == 1) => file
                    .set_permissions(Permissions::from_mode(mode & 0o555))
                    .map_err(ReleaseError::io("seal", path)),
                () => Err(ReleaseError::ForeignFile {
                    path: path.to_owned(),
                }),
            };
        }
        // The app runs as the group from now on, and may do what it could as the owner.
        let sealed_mode = mode & 0o505 | (mode & 0o500) >> 3;
        // The mode first, so that a crash after the change of owner leaves no file that the app
        // can't read; and again, since until that change the app could alter it.
        let seal = || {
            file.set_permissions(Permissions::from_mode(sealed_mode))?;
            fchown(file, Some(ROOT), Some(owner.gid))?;
            file.set_permissions(Permissions::from_mode(sealed_mode))
        };
        seal().map_err(ReleaseError::io("seal", path))
    }
}
