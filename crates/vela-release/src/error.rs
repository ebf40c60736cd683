use std::io;
use std::path::PathBuf;

use crate::{ArchiveError, ReleaseId, Sha256Digest};

/// Why a [`ReleaseStore`](crate::ReleaseStore) did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// There is a release of that name; releases are never replaced.
    #[error("release {id} exists already")]
    AlreadyExists {
        /// The release that exists.
        id: ReleaseId,
    },
    /// There is no such release.
    #[error("there is no release {id}")]
    NotFound {
        /// The release that was asked for.
        id: ReleaseId,
    },
    /// The current release is never removed.
    #[error("release {id} is the current one and can't be removed")]
    IsCurrent {
        /// The current release.
        id: ReleaseId,
    },
    /// The artifact is longer or shorter than its sender said.
    #[error("the artifact has {actual} bytes instead of {expected}")]
    WrongSize {
        /// The size that was announced.
        expected: u64,
        /// The size that it has.
        actual: u64,
    },
    /// The artifact's content is not what its sender sent.
    #[error("the artifact's SHA-256 checksum is {actual} instead of {expected}")]
    WrongChecksum {
        /// The checksum that was announced.
        expected: Sha256Digest,
        /// The checksum that it has.
        actual: Sha256Digest,
    },
    /// The archive is broken or hostile.
    #[error("the artifact of release {id} was refused")]
    Refused {
        /// The release that was to be unpacked.
        id: ReleaseId,
        /// What is wrong with the archive.
        #[source]
        source: ArchiveError,
    },
    /// `current` is something else than a link to a release, so somebody else's.
    #[error("`{}` is not a link to a release", path.display())]
    ForeignCurrent {
        /// The path of `current`.
        path: PathBuf,
    },
    /// While sealing, a file turned up that belongs to neither the app's user nor this one.
    #[error("`{}` belongs to another user", path.display())]
    ForeignFile {
        /// The file, or the directory.
        path: PathBuf,
    },
    /// While sealing, directories turned up that lie too deep in each other: more than an archive may have.
    #[error("`{}` lies in more than {limit} directories", path.display())]
    TooDeep {
        /// The first that is too deep.
        path: PathBuf,
        /// How many directories may lie in each other.
        limit: usize,
    },
    /// The operating system refused an operation on a file.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted, as in "write" or "rename".
        action: &'static str,
        /// The file, or the directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Staging failed, and what it had written could not be removed either.
    ///
    /// It is never listed, and is swept when the store is opened again.
    #[error("`{}` was left behind ({cleanup}) by a release that failed", path.display())]
    LeftBehind {
        /// What could not be removed.
        path: PathBuf,
        /// Why it could not be removed.
        cleanup: io::Error,
        /// Why staging failed.
        #[source]
        source: Box<ReleaseError>,
    },
    /// The call was dropped before it was done, so nobody waits for this answer.
    #[error("staging of release {id} was cancelled")]
    Cancelled {
        /// The release that was to be staged.
        id: ReleaseId,
    },
    /// The async runtime shut down before the work had begun.
    #[error("the runtime is shutting down")]
    ShuttingDown,
}

impl ReleaseError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::WrongSize { .. } | Self::WrongChecksum { .. } => {
                Some("it was damaged on its way: deploy again".to_owned())
            }
            Self::Refused { source, .. } => source.hint(),
            Self::IsCurrent { .. } => Some("activate another release first".to_owned()),
            Self::Io { path, source, .. } if is_disk_full(source) => Some(format!(
                "free space on the disk of `{}`, or keep fewer releases",
                path.display()
            )),
            Self::LeftBehind { source, .. } => source.hint(),
            Self::TooDeep { .. } => {
                Some("a hook made them: have it write into the app's data directory".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the disk, or the user's quota of it, is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_disk_full(source),
            Self::LeftBehind { source, .. } => source.is_disk_full(),
            _ => false,
        }
    }

    /// For `map_err`: an [`io::Error`] with what was attempted on which path.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> ReleaseError {
        let path = path.into();
        move |source| ReleaseError::Io {
            action,
            path,
            source,
        }
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
