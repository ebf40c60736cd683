use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Bindings, OwnerName, ServiceError, ServiceSpec, ServiceStatus};

/// One kind of service, for any number of owners.
///
/// Contract, checked by `test_util::conformance`:
///
/// - Every method is **idempotent**: done twice is as good as done once, also after a first time
///   that failed or was interrupted by a crash.
/// - Every method is **cancel safe**: what a dropped future left half done, the next call of the
///   same method completes.
/// - Owners are independent: what is done for one changes nothing for another.
/// - Neither `Debug` nor an error shows a secret.
#[async_trait]
pub trait Provisioner: Debug + Send + Sync {
    /// What kind of service this is, as users call it: `postgres`.
    fn kind(&self) -> &'static str;

    /// Makes sure that `owner` has the service that `spec` asks for, and that it works; gives the
    /// environment variables through which the owner's program finds it. The same owner and spec
    /// get the same variables.
    ///
    /// # Errors
    ///
    /// If `spec` asks for what this provisioner does not have, or the service can't be used.
    async fn ensure(&self, owner: &OwnerName, spec: &ServiceSpec)
    -> Result<Bindings, ServiceError>;

    /// The variables that `ensure` has given to `owner` for `spec`, by what is remembered: it makes,
    /// starts and changes nothing. Nothing if it was not ensured, or was taken away since.
    ///
    /// # Errors
    ///
    /// If what is remembered can't be read.
    async fn bindings(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError>;

    /// Brings back, after a start of the host program or of the machine, everything that was
    /// ensured before.
    ///
    /// # Errors
    ///
    /// If a service can't be brought back.
    async fn resume(&self) -> Result<(), ServiceError>;

    /// Takes the service away from `owner`, which may never have had it. The owner's data stays,
    /// unless `purge` says otherwise; what this provisioner did not make, it never deletes.
    ///
    /// # Errors
    ///
    /// If it can't be taken away.
    async fn remove(&self, owner: &OwnerName, purge: bool) -> Result<(), ServiceError>;

    /// The servers that it runs, each with its owners. Fast: asks no server.
    ///
    /// # Errors
    ///
    /// If what it has on disk can't be read.
    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError>;
}
