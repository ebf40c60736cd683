use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vela_manifest::Manifest;
use vela_protocol::Who;
use vela_release::{ReleaseId, delete_tree};

use crate::dirs::AppDirs;
use crate::durable;
use crate::error::StateError;

/// What is recorded of a release beside its files: `meta/<id>/manifest.toml` as it was sent, and this in
/// `meta/<id>/release.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) operation: String,
    pub(crate) created: Timestamp,
    pub(crate) strategy: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
    /// The version of the secrets that the release served with last: a rollback takes it again.
    pub(crate) secrets: u64,
    pub(crate) git: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) by: Who,
}

impl Meta {
    /// Writes both files into a directory that appears whole.
    pub(crate) fn create(
        &self,
        dirs: &AppDirs,
        release: ReleaseId,
        manifest: &str,
    ) -> Result<(), StateError> {
        let path = dirs.meta(release);
        let partial = dirs.metas().join(format!(".{release}.partial"));
        let at = |error| StateError::Io {
            path: partial.clone(),
            source: error,
        };
        delete_tree(&partial).map_err(at)?;
        durable::make_dir(&partial, 0o700).map_err(at)?;
        durable::write(&partial.join("manifest.toml"), manifest.as_bytes(), 0o600).map_err(at)?;
        durable::write(
            &partial.join("release.toml"),
            self.text(dirs, release)?.as_bytes(),
            0o600,
        )
        .map_err(at)?;
        std::fs::rename(&partial, &path).map_err(at)?;
        durable::sync_parent(&path).map_err(at)
    }

    /// Replaces the record alone.
    pub(crate) fn update(&self, dirs: &AppDirs, release: ReleaseId) -> Result<(), StateError> {
        let path = dirs.meta(release).join("release.toml");
        durable::write(&path, self.text(dirs, release)?.as_bytes(), 0o600)
            .map_err(StateError::at(&path))
    }

    pub(crate) fn read(dirs: &AppDirs, release: ReleaseId) -> Result<Meta, StateError> {
        let path = dirs.meta(release).join("release.toml");
        let text = std::fs::read_to_string(&path).map_err(StateError::at(&path))?;
        toml::from_str(&text).map_err(|source| StateError::damaged(&path, source))
    }

    pub(crate) fn read_manifest(
        dirs: &AppDirs,
        release: ReleaseId,
    ) -> Result<Manifest, StateError> {
        let path = dirs.meta(release).join("manifest.toml");
        let text = std::fs::read_to_string(&path).map_err(StateError::at(&path))?;
        Manifest::parse("manifest.toml", &text).map_err(|source| StateError::damaged(&path, source))
    }

    /// Every release that something is recorded of.
    pub(crate) fn all(dirs: &AppDirs) -> Result<Vec<ReleaseId>, StateError> {
        let metas = dirs.metas();
        let entries = match std::fs::read_dir(&metas) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(StateError::at(&metas))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(StateError::at(&metas))?.file_name();
            all.extend(
                name.to_str()
                    .and_then(|name| name.parse::<ReleaseId>().ok()),
            );
        }
        Ok(all)
    }

    /// Removes what is recorded of a release, if anything is.
    pub(crate) fn remove(dirs: &AppDirs, release: ReleaseId) -> Result<(), StateError> {
        let path = dirs.meta(release);
        delete_tree(&path).map_err(StateError::at(&path))?;
        let partial = dirs.metas().join(format!(".{release}.partial"));
        delete_tree(&partial).map_err(StateError::at(&partial))
    }

    fn text(&self, dirs: &AppDirs, release: ReleaseId) -> Result<String, StateError> {
        toml::to_string(self).map_err(|source| StateError::damaged(&dirs.meta(release), source))
    }
}
