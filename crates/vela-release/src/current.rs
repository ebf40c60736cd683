use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::durable::sync_dir;
use crate::{ReleaseError, ReleaseId};

/// The link `current` in an app's directory, which points at one of its releases.
#[derive(Debug)]
pub(crate) struct Current {
    app_dir: PathBuf,
    link: PathBuf,
    /// The next link, for the instant between its making and its taking the other's place.
    next: PathBuf,
}

impl Current {
    pub(crate) fn new(app_dir: &Path) -> Self {
        Self {
            app_dir: app_dir.to_owned(),
            link: app_dir.join("current"),
            next: app_dir.join(".current.next"),
        }
    }

    /// The release it points at, if there is a link.
    pub(crate) fn read(&self) -> Result<Option<ReleaseId>, ReleaseError> {
        let foreign = || ReleaseError::ForeignCurrent {
            path: self.link.clone(),
        };
        let target = match fs::read_link(&self.link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // What it says of a file or a directory.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(foreign()),
            Err(error) => return Err(ReleaseError::io("read", &self.link)(error)),
        };
        let id = target.strip_prefix("releases").ok().and_then(Path::to_str);
        id.and_then(|id| id.parse().ok())
            .map(Some)
            .ok_or_else(foreign)
    }

    /// Makes it point at `id`: there is no instant at which it is missing, and no return before
    /// the change is on disk.
    pub(crate) fn point_at(&self, id: ReleaseId) -> Result<(), ReleaseError> {
        self.sweep()?;
        symlink(Path::new("releases").join(id.to_string()), &self.next)
            .map_err(ReleaseError::io("make the link", &self.next))?;
        if let Err(error) = fs::rename(&self.next, &self.link) {
            let source = ReleaseError::io("replace", &self.link)(error);
            return match fs::remove_file(&self.next) {
                Ok(()) => Err(source),
                Err(cleanup) => {
                    let (path, source) = (self.next.clone(), source.into());
                    Err(ReleaseError::LeftBehind {
                        path,
                        cleanup,
                        source,
                    })
                }
            };
        }
        sync_dir(&self.app_dir).map_err(ReleaseError::io("sync", &self.app_dir))
    }

    /// Removes a next link that a crash has left.
    pub(crate) fn sweep(&self) -> Result<(), ReleaseError> {
        match fs::remove_file(&self.next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ReleaseError::io("remove", &self.next)(error))
            }
            _ => Ok(()),
        }
    }
}
