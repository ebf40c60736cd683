use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Seek};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::current::Current;
use crate::delete::delete_tree;
use crate::durable::{create_dirs, sync_dir};
use crate::seal::seal;
use crate::unpack::Unpack;
use crate::{
    Artifact, Release, ReleaseError, ReleaseId, ReleaseStore, Releases, Sha256Digest, StoreOptions,
};

/// A [`ReleaseStore`] in a directory: `releases/<id>/` for each release, and the link `current`.
///
/// A release that exists is complete: it is unpacked and synced under another name, and renamed
/// in the end. What is hidden (`.<id>.partial`, `.<id>.removed`) is not a release.
///
/// Clones share the directory and their turns. One process at a time may open it; that is for
/// the caller to make sure of.
#[derive(Debug, Clone)]
pub struct DirStore {
    inner: Arc<Inner>,
}

impl DirStore {
    /// Opens the store in `app_dir`, made with its parents where missing, and removes what a
    /// crash has left half-made. Blocks on a few file operations.
    ///
    /// With an owner, `releases` is open to root and the owner's group alone.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Io`] if a directory can't be made, read or cleaned up.
    pub fn open(app_dir: PathBuf, options: StoreOptions) -> Result<DirStore, ReleaseError> {
        let releases = app_dir.join("releases");
        create_dirs(&releases).map_err(ReleaseError::io("make the directory", &releases))?;
        if let Some(owner) = options.owner {
            let failed = |error| ReleaseError::io("set the mode or the owner of", &releases)(error);
            fs::set_permissions(&releases, Permissions::from_mode(0o750)).map_err(failed)?;
            chown(&releases, None, Some(owner.gid)).map_err(failed)?;
        }
        let current = Current::new(&app_dir);
        let inner = Inner {
            releases,
            current,
            options,
            turn: Mutex::new(()),
        };
        inner.sweep()?;
        Ok(DirStore {
            inner: Arc::new(inner),
        })
    }

    /// Runs blocking work off the async threads, after those who came before.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ReleaseError> + Send + 'static,
    ) -> Result<T, ReleaseError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            // The lock guards no data that a panic could leave inconsistent.
            let _turn = inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
            work(&inner)
        })
        .await
    }
}

#[async_trait]
impl ReleaseStore for DirStore {
    async fn stage(&self, id: ReleaseId, artifact: &Artifact) -> Result<Release, ReleaseError> {
        let artifact = artifact.clone();
        let dropped = CancelOnDrop::default();
        let cancelled = Arc::clone(&dropped.0);
        self.in_turn(move |inner| inner.stage(id, &artifact, &cancelled))
            .await
    }

    async fn seal(&self, id: ReleaseId) -> Result<(), ReleaseError> {
        self.in_turn(move |inner| {
            inner.must_exist(id)?;
            seal(&inner.release(id), inner.options.owner)
        })
        .await
    }

    async fn activate(&self, id: ReleaseId) -> Result<Option<ReleaseId>, ReleaseError> {
        self.in_turn(move |inner| {
            inner.must_exist(id)?;
            let previous = inner.current.read()?;
            inner.current.point_at(id)?;
            Ok(previous)
        })
        .await
    }

    async fn list(&self) -> Result<Releases, ReleaseError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.list()).await
    }

    async fn remove(&self, id: ReleaseId) -> Result<(), ReleaseError> {
        self.in_turn(move |inner| inner.remove(id)).await
    }
}

#[derive(Debug)]
struct Inner {
    releases: PathBuf,
    current: Current,
    options: StoreOptions,
    turn: Mutex<()>,
}

impl Inner {
    fn stage(
        &self,
        id: ReleaseId,
        artifact: &Artifact,
        cancelled: &AtomicBool,
    ) -> Result<Release, ReleaseError> {
        if cancelled.load(Ordering::Relaxed) {
            return Err(ReleaseError::Cancelled { id });
        }
        let path = self.release(id);
        if exists(&path)? {
            return Err(ReleaseError::AlreadyExists { id });
        }
        let archive = verified(artifact)?;
        let partial = self.hidden(id, PARTIAL);
        match self.complete(id, archive, &partial, &path, cancelled) {
            Ok(()) => Ok(Release { id, path }),
            Err(source) => match self.discard(&path, &partial) {
                Ok(()) => Err(source),
                Err(cleanup) => Err(ReleaseError::LeftBehind {
                    path: partial,
                    cleanup,
                    source: source.into(),
                }),
            },
        }
    }

    /// Unpacks, syncs, and only then gives the release its name.
    fn complete(
        &self,
        id: ReleaseId,
        archive: File,
        partial: &Path,
        path: &Path,
        cancelled: &AtomicBool,
    ) -> Result<(), ReleaseError> {
        delete_tree(partial).map_err(ReleaseError::io("remove", partial))?;
        let made = DirBuilder::new().mode(0o700).create(partial);
        made.map_err(ReleaseError::io("make the directory", partial))?;
        let StoreOptions { limits, owner } = self.options;
        Unpack {
            id,
            into: partial,
            limits,
            owner,
            durable: true,
            cancelled,
        }
        .run(archive)?;
        fs::rename(partial, path).map_err(ReleaseError::io("rename", partial))?;
        sync_dir(&self.releases).map_err(ReleaseError::io("sync", &self.releases))
    }

    fn discard(&self, path: &Path, partial: &Path) -> io::Result<()> {
        match fs::rename(path, partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => delete_tree(partial),
        }
    }

    fn list(&self) -> Result<Releases, ReleaseError> {
        let failed = |error| ReleaseError::io("read", &self.releases)(error);
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.releases).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                && entry.file_type().map_err(failed)?.is_dir()
            {
                all.push(Release {
                    id,
                    path: entry.path(),
                });
            }
        }
        all.sort_by_key(|release| release.id);
        Ok(Releases {
            current: self.current.read()?,
            all,
        })
    }

    fn remove(&self, id: ReleaseId) -> Result<(), ReleaseError> {
        if self.current.read()? == Some(id) {
            return Err(ReleaseError::IsCurrent { id });
        }
        let (path, removed) = (self.release(id), self.hidden(id, REMOVED));
        // What an earlier call could not delete.
        delete_tree(&removed).map_err(ReleaseError::io("remove", &removed))?;
        if !exists(&path)? {
            return Ok(());
        }
        fs::rename(&path, &removed).map_err(ReleaseError::io("rename", &path))?;
        // Else, after a loss of power, half of the release could be back under its name.
        sync_dir(&self.releases).map_err(ReleaseError::io("sync", &self.releases))?;
        delete_tree(&removed).map_err(ReleaseError::io("remove", &removed))
    }

    /// Removes what a crash has left.
    fn sweep(&self) -> Result<(), ReleaseError> {
        let failed = |error| ReleaseError::io("read", &self.releases)(error);
        for entry in fs::read_dir(&self.releases).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(is_hidden) {
                let path = entry.path();
                delete_tree(&path).map_err(ReleaseError::io("remove", &path))?;
            }
        }
        self.current.sweep()
    }

    fn must_exist(&self, id: ReleaseId) -> Result<(), ReleaseError> {
        if exists(&self.release(id))? {
            Ok(())
        } else {
            Err(ReleaseError::NotFound { id })
        }
    }

    fn release(&self, id: ReleaseId) -> PathBuf {
        self.releases.join(id.to_string())
    }

    fn hidden(&self, id: ReleaseId, suffix: &str) -> PathBuf {
        self.releases.join(format!(".{id}{suffix}"))
    }
}

const PARTIAL: &str = ".partial";
const REMOVED: &str = ".removed";

/// Whether this store made the name, for something that is not a release (any more).
fn is_hidden(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|name| {
            name.strip_suffix(PARTIAL)
                .or_else(|| name.strip_suffix(REMOVED))
        })
        .is_some_and(|id| id.parse::<ReleaseId>().is_ok())
}

fn exists(path: &Path) -> Result<bool, ReleaseError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ReleaseError::io("read", path)(error)),
    }
}

/// Opens an artifact that is what its sender sent.
///
/// It is read once more than if it were hashed while it is unpacked. That costs a copy out of the
/// page cache; and for it, nothing that was damaged on its way reaches the decoders.
pub(crate) fn verified(artifact: &Artifact) -> Result<File, ReleaseError> {
    let failed = |error| ReleaseError::io("read", &artifact.path)(error);
    let mut file = File::open(&artifact.path).map_err(failed)?;
    let (expected, actual) = (artifact.size, file.metadata().map_err(failed)?.len());
    if actual != expected {
        return Err(ReleaseError::WrongSize { expected, actual });
    }
    let (expected, actual) = (artifact.sha256, Sha256Digest::of(&file).map_err(failed)?);
    if actual != expected {
        return Err(ReleaseError::WrongChecksum { expected, actual });
    }
    file.rewind().map_err(failed)?;
    Ok(file)
}

/// Tells the blocking work that nobody waits for it any more.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReleaseError> + Send + 'static,
) -> Result<T, ReleaseError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ReleaseError::ShuttingDown),
        },
    }
}
