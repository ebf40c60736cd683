use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Artifact, Release, ReleaseError, ReleaseId, ReleaseStore, Releases};

/// A method of [`ReleaseStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreCall {
    /// [`ReleaseStore::stage`]
    Stage,
    /// [`ReleaseStore::seal`]
    Seal,
    /// [`ReleaseStore::activate`]
    Activate,
    /// [`ReleaseStore::list`]
    List,
    /// [`ReleaseStore::remove`]
    Remove,
}

impl StoreCall {
    /// Every method.
    pub const ALL: [StoreCall; 5] = [
        Self::Stage,
        Self::Seal,
        Self::Activate,
        Self::List,
        Self::Remove,
    ];
}

/// On which side of its effect a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// Nothing has happened.
    Before,
    /// The effect has happened, and only its answer was lost.
    After,
}

/// A store that works as the one it wraps until [`armed`](FailAt::arm); then one kind of call
/// fails, as on a full disk, until [`disarmed`](FailAt::disarm).
#[derive(Debug)]
pub struct FailAt {
    inner: Arc<dyn ReleaseStore>,
    armed: Mutex<Option<(StoreCall, When)>>,
    hits: Mutex<usize>,
}

impl FailAt {
    /// Wraps a store; no call fails yet.
    #[must_use]
    pub fn new(inner: Arc<dyn ReleaseStore>) -> Self {
        Self {
            inner,
            armed: Mutex::new(None),
            hits: Mutex::new(0),
        }
    }

    /// Makes every such call fail from here on, and no other.
    pub fn arm(&self, call: StoreCall, when: When) {
        *lock(&self.armed) = Some((call, when));
    }

    /// Lets all calls pass again.
    pub fn disarm(&self) {
        *lock(&self.armed) = None;
    }

    /// How many calls have failed; a test asserts that its fault was hit.
    #[must_use]
    pub fn hits(&self) -> usize {
        *lock(&self.hits)
    }

    fn fail(&self, call: StoreCall, when: When) -> Result<(), ReleaseError> {
        if *lock(&self.armed) != Some((call, when)) {
            return Ok(());
        }
        *lock(&self.hits) += 1;
        Err(ReleaseError::io("reach", "fail-at")(
            io::ErrorKind::StorageFull.into(),
        ))
    }
}

#[async_trait]
impl ReleaseStore for FailAt {
    async fn stage(&self, id: ReleaseId, artifact: &Artifact) -> Result<Release, ReleaseError> {
        self.fail(StoreCall::Stage, When::Before)?;
        let release = self.inner.stage(id, artifact).await?;
        self.fail(StoreCall::Stage, When::After).map(|()| release)
    }

    async fn seal(&self, id: ReleaseId) -> Result<(), ReleaseError> {
        self.fail(StoreCall::Seal, When::Before)?;
        self.inner.seal(id).await?;
        self.fail(StoreCall::Seal, When::After)
    }

    async fn activate(&self, id: ReleaseId) -> Result<Option<ReleaseId>, ReleaseError> {
        self.fail(StoreCall::Activate, When::Before)?;
        let previous = self.inner.activate(id).await?;
        self.fail(StoreCall::Activate, When::After)
            .map(|()| previous)
    }

    async fn list(&self) -> Result<Releases, ReleaseError> {
        self.fail(StoreCall::List, When::Before)?;
        let releases = self.inner.list().await?;
        self.fail(StoreCall::List, When::After).map(|()| releases)
    }

    async fn remove(&self, id: ReleaseId) -> Result<(), ReleaseError> {
        self.fail(StoreCall::Remove, When::Before)?;
        self.inner.remove(id).await?;
        self.fail(StoreCall::Remove, When::After)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
