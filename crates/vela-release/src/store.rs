use std::fmt::Debug;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::{ReleaseError, ReleaseId, Sha256Digest};

/// The releases of one app, one of which is current.
///
/// Every method is all or nothing: an error leaves what was there before, and so does a crash
/// between any two instructions (what a crash leaves half-made is never listed, and swept when
/// the store is opened again). What a method has answered with `Ok` survives a loss of power.
///
/// Calls that change something take turns, whoever makes them; [`list`](Self::list) never waits.
#[async_trait]
pub trait ReleaseStore: Debug + Send + Sync {
    /// Verifies the artifact's size and checksum and unpacks it as release `id`.
    ///
    /// Refused whole, with nothing left behind, if the bytes are not those announced, if the
    /// archive is hostile, or if the disk is full. Not idempotent: a release is never replaced,
    /// so a second call is [`ReleaseError::AlreadyExists`]. Cancel safe: dropping the future
    /// stops the work and removes what was written, and later calls wait until it has. A call
    /// that is dropped in its very last instant may still leave a complete release.
    async fn stage(&self, id: ReleaseId, artifact: &Artifact) -> Result<Release, ReleaseError>;

    /// Makes the release read-only, for good. Idempotent.
    ///
    /// On an error the release may be sealed in part; calling again completes it. Dropping the
    /// future does not stop the work.
    async fn seal(&self, id: ReleaseId) -> Result<(), ReleaseError>;

    /// Makes `id` the current release and tells which one was before. Idempotent.
    ///
    /// Atomic: whoever looks sees the old one or the new one. If it fails, what
    /// [`list`](Self::list) then says is current decides. Dropping the future does not stop the
    /// work: await it.
    async fn activate(&self, id: ReleaseId) -> Result<Option<ReleaseId>, ReleaseError>;

    /// The complete releases, and which is current.
    async fn list(&self) -> Result<Releases, ReleaseError>;

    /// Removes a release, or does nothing where there is none. Idempotent.
    ///
    /// Refuses the current one. The release ceases to exist at once; its files follow. Dropping
    /// the future does not stop the work.
    async fn remove(&self, id: ReleaseId) -> Result<(), ReleaseError>;
}

/// A packed archive on this machine, and what its sender said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where the archive is. Nobody may change the file while it is staged.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its checksum.
    pub sha256: Sha256Digest,
}

/// A complete release on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The release's name.
    pub id: ReleaseId,
    /// The directory that holds exactly the files of its artifact.
    pub path: PathBuf,
}

/// What a [`ReleaseStore`] holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Releases {
    /// The release that was activated last; missing from `all` only if someone deleted it by hand.
    pub current: Option<ReleaseId>,
    /// Every complete release, oldest first.
    pub all: Vec<Release>,
}

impl Releases {
    /// The newest release's id, for [`ReleaseId::next_after`].
    #[must_use]
    pub fn newest(&self) -> Option<ReleaseId> {
        self.all.last().map(|release| release.id)
    }

    /// The release called `id`, if it exists.
    #[must_use]
    pub fn get(&self, id: ReleaseId) -> Option<&Release> {
        self.all.iter().find(|release| release.id == id)
    }
}
