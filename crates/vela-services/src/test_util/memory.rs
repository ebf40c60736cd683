use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use crate::{Bindings, OwnerName, Provisioner, ServiceError, ServiceSpec, ServiceStatus};

const KIND: &str = "memory";

/// A provisioner that only remembers. It gives `MEMORY_URL`: the spec's `url`, or one made of the
/// owner's name.
#[derive(Debug, Default)]
pub struct MemoryProvisioner {
    state: Mutex<State>,
}

/// What a [`MemoryProvisioner`] was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// [`Provisioner::ensure`] for this owner.
    Ensure(OwnerName),
    /// [`Provisioner::resume`].
    Resume,
    /// [`Provisioner::remove`] for this owner.
    Remove {
        /// Whose service.
        owner: OwnerName,
        /// Whether the data goes too.
        purge: bool,
    },
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    owners: BTreeSet<OwnerName>,
    failures: usize,
}

impl MemoryProvisioner {
    /// One that has provisioned nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next `calls` calls fail. They are recorded, and change nothing.
    pub fn fail_next(&self, calls: usize) {
        self.state().failures = calls;
    }

    /// What it was asked for so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Who has the service at the moment.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<OwnerName> {
        self.state().owners.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the call; gives the state unless the call is to fail.
    fn record(&self, call: Call) -> Result<MutexGuard<'_, State>, ServiceError> {
        let mut state = self.state();
        state.calls.push(call);
        if state.failures == 0 {
            return Ok(state);
        }
        state.failures -= 1;
        Err(ServiceError::Failed {
            kind: KIND,
            address: "memory".into(),
            source: "told to fail".into(),
        })
    }
}

#[async_trait]
impl Provisioner for MemoryProvisioner {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn ensure(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Bindings, ServiceError> {
        self.record(Call::Ensure(owner.clone()))?
            .owners
            .insert(owner.clone());
        Ok(given(owner, spec))
    }

    async fn bindings(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        let has = self.state().owners.contains(owner);
        Ok(has.then(|| given(owner, spec)))
    }

    async fn resume(&self) -> Result<(), ServiceError> {
        self.record(Call::Resume).map(drop)
    }

    async fn remove(&self, owner: &OwnerName, purge: bool) -> Result<(), ServiceError> {
        self.record(Call::Remove {
            owner: owner.clone(),
            purge,
        })?
        .owners
        .remove(owner);
        Ok(())
    }

    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError> {
        Ok(Vec::new())
    }
}

fn given(owner: &OwnerName, spec: &ServiceSpec) -> Bindings {
    let url = match &spec.url {
        Some(url) => SecretString::from(url.expose_secret()),
        None => SecretString::from(format!("memory://{owner}")),
    };
    Bindings::from([("MEMORY_URL".to_owned(), url)])
}
