use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use cap_std::fs::Dir;

use crate::confine::confined;
use crate::delete::delete_tree;
use crate::dir_store::verified;
use crate::durable::{create_dirs, sync_dir};
use crate::pack_tree::pack_tree;
use crate::sync::{Sync, Synced};
use crate::unpack::Unpack;
use crate::{
    Artifact, Owner, PackError, Packed, ReleaseError, ReleaseId, Selection, StoreOptions, beneath,
};

/// A directory in which source is built again and again, for one application.
///
/// Source is *synced* into it: a file that has not changed keeps its time, one that has gets a new
/// one, one that is gone from the source is removed; and whatever a build has left beside them
/// stays, so that the next build finds its caches. Beside the tree there is a home directory for
/// what tools keep there.
///
/// With an [`owner`](StoreOptions::owner) tree and home belong to that user, who runs builds and
/// may do there what it likes at any time, while this process is root: it follows no link there,
/// and reads and writes nothing outside, whatever is renamed or replaced under its feet.
///
/// Everything blocks: in async code call it through `spawn_blocking`. One call at a time; that is
/// for the caller to make sure of. A crash at any point leaves a tree that the next call of
/// [`sync`](SourceTree::sync) makes right.
#[derive(Debug, Clone)]
pub struct SourceTree {
    dir: PathBuf,
    options: StoreOptions,
}

impl SourceTree {
    /// Opens the tree in `dir`, made with its parents where missing. If tree or home belong to
    /// another user than they should, both begin anew.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Io`] if a directory can't be made or cleaned up.
    pub fn open(dir: PathBuf, options: StoreOptions) -> Result<SourceTree, ReleaseError> {
        let source_tree = SourceTree { dir, options };
        let dir = &source_tree.dir;
        create_dirs(dir).map_err(ReleaseError::io("make the directory", dir))?;
        let mode = fs::Permissions::from_mode(0o711);
        fs::set_permissions(dir, mode).map_err(ReleaseError::io("set the mode of", dir))?;
        let kept = [source_tree.root(), source_tree.home()];
        for path in &kept {
            if !source_tree.is_owned(path)? {
                for path in kept.iter().chain([&source_tree.list()]) {
                    remove(path)?;
                }
                break;
            }
        }
        for path in &kept {
            source_tree.make_directory(path)?;
        }
        Ok(source_tree)
    }

    /// Where the source lies, and is built.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// The home directory of builds.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// Makes the tree's source what the archive holds. `id` is the release it is for, which errors
    /// name. `cancelled` may be set by another thread.
    ///
    /// # Errors
    ///
    /// As for [`ReleaseStore::stage`](crate::ReleaseStore::stage): the archive is not what was
    /// announced, is hostile or broken, or a file can't be written. The tree may then hold some of
    /// the new source, and some of the old.
    pub fn sync(
        &self,
        id: ReleaseId,
        source: &Artifact,
        cancelled: &AtomicBool,
    ) -> Result<Synced, ReleaseError> {
        let archive = verified(source)?;
        let incoming = Incoming::make(self.dir.join(".incoming"))?;
        let into = incoming.0.join("source");
        let made = DirBuilder::new().mode(0o700).create(&into);
        made.map_err(ReleaseError::io("make the directory", &into))?;
        let StoreOptions { limits, owner } = self.options;
        Unpack {
            id,
            into: &into,
            limits,
            owner,
            durable: false,
            cancelled,
        }
        .run(archive)?;
        let open = |path: &Path| {
            let opened = beneath::open_root(path);
            opened.map_err(ReleaseError::io("open", path))
        };
        let sync = Sync {
            id,
            source: open(&into)?,
            tree: open(&self.root())?,
            path: &self.root(),
            uid: self.uid(),
            owner,
            cancelled,
        };
        let old = self.read_list()?;
        let new = sync.files()?;
        // Both, while the tree holds some of each: what is in the list and not in the source goes.
        self.write_list(&old.union(&new).cloned().collect())?;
        let synced = sync.run(&old, &new)?;
        self.write_list(&new)?;
        Ok(synced)
    }

    /// Packs a part of the tree, as an archive that a [`ReleaseStore`](crate::ReleaseStore) of the
    /// same options can stage. It is stored, not compressed.
    ///
    /// # Errors
    ///
    /// As for [`pack`](crate::pack); also for a file that changed while it was packed, one of
    /// another user, and more than the limits. Nothing outside the tree is ever packed.
    pub fn pack(
        &self,
        selection: Selection<'_>,
        out: impl Write,
        cancelled: &AtomicBool,
    ) -> Result<Packed, PackError> {
        let StoreOptions { limits, owner } = self.options;
        pack_tree(&self.root(), selection, owner, limits, out, cancelled)
    }

    /// The names in a directory of the tree, sorted; a directory's own ends with a `/`. None if
    /// there is no such directory, or it is not inside the tree.
    #[must_use]
    pub fn names(&self, directory: &Path) -> Option<Vec<String>> {
        let tree = beneath::open_root(&self.root()).ok()?;
        let from = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        let directory = Dir::from_std_file(tree).open_dir(from).ok()?;
        let mut names = Vec::new();
        for entry in directory.entries().ok()? {
            let entry = entry.ok()?;
            let slash = match entry.file_type().ok()?.is_dir() {
                true => "/",
                false => "",
            };
            names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
        }
        names.sort();
        Some(names)
    }

    /// To whom tree and home belong.
    fn uid(&self) -> u32 {
        match self.options.owner {
            Some(Owner { uid, .. }) => uid,
            None => rustix::process::geteuid().as_raw(),
        }
    }

    /// Whether it is a directory of the user that it should be of, or not there.
    fn is_owned(&self, path: &Path) -> Result<bool, ReleaseError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(metadata.is_dir() && metadata.uid() == self.uid()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(ReleaseError::io("read", path)(error)),
        }
    }

    fn make_directory(&self, path: &Path) -> Result<(), ReleaseError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made.map_err(ReleaseError::io("make the directory", path))?,
        }
        let Some(Owner { uid, gid }) = self.options.owner else {
            return Ok(());
        };
        let opened = beneath::open_root(path).map_err(ReleaseError::io("open", path))?;
        let given = fchown(&opened, Some(uid), Some(gid));
        given.map_err(ReleaseError::io("set the owner of", path))
    }

    /// The file that remembers which files of the tree are source. Nobody else can write it.
    fn list(&self) -> PathBuf {
        self.dir.join("sources")
    }

    fn read_list(&self) -> Result<BTreeSet<PathBuf>, ReleaseError> {
        let path = self.list();
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            read => read.map_err(ReleaseError::io("read", &path))?,
        };
        let names = bytes.split(|byte| *byte == 0);
        let names = names.filter_map(|name| confined(Path::new(OsStr::from_bytes(name))).ok());
        Ok(names.collect())
    }

    /// Replaces the list: after a crash there is the old one or the new one.
    fn write_list(&self, files: &BTreeSet<PathBuf>) -> Result<(), ReleaseError> {
        let (path, next) = (self.list(), self.dir.join(".sources.next"));
        let mut bytes = Vec::new();
        for file in files {
            bytes.extend_from_slice(file.as_os_str().as_bytes());
            bytes.push(0);
        }
        let write = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&next)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            sync_dir(&self.dir)
        };
        write().map_err(ReleaseError::io("write", &path))
    }
}

/// A private directory that a new source is unpacked into, removed with this value.
struct Incoming(PathBuf);

impl Incoming {
    fn make(path: PathBuf) -> Result<Self, ReleaseError> {
        remove(&path)?;
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(ReleaseError::io("make the directory", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // What can't be removed now is removed, or is an error, at the next time.
        drop(delete_tree(&self.0));
    }
}

fn remove(path: &Path) -> Result<(), ReleaseError> {
    delete_tree(path).map_err(ReleaseError::io("remove", path))
}
