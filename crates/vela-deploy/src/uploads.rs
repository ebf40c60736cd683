use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;
use vela_protocol::Upload;
use vela_release::delete_tree;

use crate::durable;
use crate::error::{EngineError, StateError};

/// How many bytes all uploads that wait may take together.
const QUOTA: u64 = 16 << 30;
/// An upload that no deploy took for this long is swept by the next one.
const STALE: Duration = Duration::from_secs(60 * 60);

/// The private directory that artifacts are received into, on the file system of the releases.
///
/// An upload appears under its id only when its body ended well; one that was cut leaves nothing. Of several with
/// the same id the last to end stays.
#[derive(Debug)]
pub struct Uploads {
    dir: PathBuf,
    held: AtomicU64,
}

impl Uploads {
    /// Opens and sweeps the directory: no upload outlives the daemon that received it.
    pub(crate) fn open(dir: PathBuf) -> Result<Uploads, StateError> {
        delete_tree(&dir).map_err(StateError::at(&dir))?;
        durable::make_dir(&dir, 0o700).map_err(StateError::at(&dir))?;
        Ok(Uploads {
            dir,
            held: AtomicU64::new(0),
        })
    }

    /// Receives one artifact. The body is written as it arrives; nothing is kept if it fails or is dropped.
    ///
    /// Not synced: the deploy verifies size and SHA-256 before it unpacks, and a crash sweeps uploads anyway.
    ///
    /// # Errors
    /// When the quota of 16 GiB is reached, the disk is full, or the body breaks off.
    pub async fn receive<B, E>(
        &self,
        id: Uuid,
        mut body: impl Stream<Item = Result<B, E>> + Unpin + Send,
    ) -> Result<Upload, EngineError>
    where
        B: AsRef<[u8]> + Send,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.sweep();
        let mut partial = Partial {
            uploads: self,
            path: self.dir.join(format!(".{id}.{}.partial", Uuid::new_v4())),
            size: 0,
        };
        let mut file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial.path)
            .await
            .map_err(|source| EngineError::UploadFailed { id, source })?;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|source| EngineError::UploadCut {
                id,
                source: source.into(),
            })?;
            let bytes = chunk.as_ref();
            partial.reserve(bytes.len() as u64, id)?;
            file.write_all(bytes)
                .await
                .map_err(|source| EngineError::UploadFailed { id, source })?;
        }
        file.flush()
            .await
            .map_err(|source| EngineError::UploadFailed { id, source })?;
        // The newest upload of an id wins: a client whose connection broke sends it again before the daemon knows.
        self.remove(&self.path(id))
            .map_err(|source| EngineError::UploadFailed { id, source })?;
        std::fs::rename(&partial.path, self.path(id))
            .map_err(|source| EngineError::UploadFailed { id, source })?;
        let size = std::mem::take(&mut partial.size);
        Ok(Upload { upload: id, size })
    }

    /// Forgets an upload; one that is not there is fine.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn discard(&self, id: Uuid) -> Result<(), EngineError> {
        self.remove(&self.path(id))
            .map_err(|source| EngineError::UploadFailed { id, source })
    }

    /// Where an upload lies, if it was received whole.
    pub(crate) fn find(&self, id: Uuid) -> Option<PathBuf> {
        Some(self.path(id)).filter(|path| path.is_file())
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let size = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?.len(),
        };
        match std::fs::remove_file(path) {
            // Somebody else has, since it was looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => {
                removed?;
                self.held.fetch_sub(size, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue; // on its way in
            }
            let age = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .map(|at| SystemTime::now().duration_since(at));
            if matches!(age, Ok(Ok(age)) if age > STALE)
                && let Err(error) = self.remove(&entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "could not sweep a stale upload");
            }
        }
    }
}

/// An upload in progress: removed, with what it holds of the quota, when it is dropped before its end.
#[derive(Debug)]
struct Partial<'a> {
    uploads: &'a Uploads,
    path: PathBuf,
    size: u64,
}

impl Partial<'_> {
    fn reserve(&mut self, bytes: u64, id: Uuid) -> Result<(), EngineError> {
        self.size += bytes;
        if self.uploads.held.fetch_add(bytes, Ordering::Relaxed) + bytes > QUOTA {
            return Err(EngineError::UploadQuota { id, quota: QUOTA });
        }
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        self.uploads.held.fetch_sub(self.size, Ordering::Relaxed);
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "could not remove a broken upload");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn an_upload_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(dir.path().join("staging")).unwrap();
        let id = Uuid::new_v4();
        let cut = stream::iter([Ok(b"abc".to_vec()), Err(io::Error::other("gone"))]);
        assert!(matches!(
            uploads.receive(id, cut).await,
            Err(EngineError::UploadCut { .. })
        ));
        assert_eq!(uploads.find(id), None);
        assert_eq!(std::fs::read_dir(&uploads.dir).unwrap().count(), 0);
        assert_eq!(uploads.held.load(Ordering::Relaxed), 0);

        let whole = stream::iter([Ok::<_, io::Error>(b"abc".to_vec()), Ok(b"de".to_vec())]);
        assert_eq!(uploads.receive(id, whole).await.unwrap().size, 5);
        assert_eq!(std::fs::read(uploads.find(id).unwrap()).unwrap(), b"abcde");
        uploads.discard(id).unwrap();
        uploads.discard(id).unwrap();
        assert_eq!(uploads.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn opening_sweeps_what_another_daemon_left() {
        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join("staging");
        std::fs::create_dir(&staging).unwrap();
        std::fs::write(staging.join("old"), "x").unwrap();
        Uploads::open(staging.clone()).unwrap();
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
    }
}
