use std::fmt::Debug;

use async_trait::async_trait;

use crate::{ProbeError, Target};

/// One way to find out whether an instance is healthy.
///
/// Contract, checked by `test_util::conformance`:
///
/// - A call is **one attempt**: it does not retry, and it keeps nothing for the next one. Many
///   may run at once.
/// - It has **no timeout of its own**. Against an instance that never answers it may pend for
///   ever; [`Policy`](crate::Policy) puts an end to it by dropping the future.
/// - It is **cancel safe**: dropping the future at any point closes what it opened and kills what
///   it started.
/// - It uses bounded memory, whatever the instance answers.
#[async_trait]
pub trait Probe: Debug + Send + Sync {
    /// Makes one attempt at `target`.
    ///
    /// # Errors
    ///
    /// The reason why this attempt does not count as healthy.
    async fn check(&self, target: &Target) -> Result<(), ProbeError>;
}
