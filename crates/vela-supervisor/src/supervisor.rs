use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Exit, Instance, InstanceId, InstanceSpec, Signal, Stop, SupervisorError};

/// Starts, stops and watches instances, each a program and all its descendants.
///
/// Implementations pass `test_util::conformance` (feature `test-util`).
#[async_trait]
pub trait Supervisor: Debug + Send + Sync {
    /// Starts an instance. Returns once the program runs, that is, after a successful `exec`.
    /// A program that somebody still has open for writing is waited for, half a second at most.
    ///
    /// Cancel safe: an instance whose start is dropped half-way is killed. Not idempotent: an id
    /// that lives is [`SupervisorError::AlreadyExists`].
    ///
    /// # Errors
    /// Nothing is left over after any error; [`SupervisorError::NotExecutable`] says that the
    /// program could not be executed and why.
    async fn start(&self, spec: InstanceSpec) -> Result<Instance, SupervisorError>;

    /// Stops an instance: the signal to its main process, the grace period, then `SIGKILL` to every
    /// process of its tree. What the main process leaves behind is sent the signal when that ends,
    /// once, and has the rest of the grace. (When it ends without a stop, the rest is killed.)
    ///
    /// Idempotent: one that ended already gives its [`Exit`]. A second call can only shorten the
    /// first one's grace. Cancel safe: once polled, the stop goes on though the caller is dropped.
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`] for an id that this supervisor never knew, or forgot (it
    /// remembers the last thousand ends). [`SupervisorError::Unkillable`] some seconds after the
    /// grace, if a process survives `SIGKILL`; the end is still reported if it comes.
    async fn stop(&self, id: &InstanceId, stop: &Stop) -> Result<Exit, SupervisorError>;

    /// Sends a signal to an instance's main process, at most once; one that has ended is not an
    /// error.
    ///
    /// # Errors
    /// [`SupervisorError::NotFound`] as for `stop`.
    async fn signal(&self, id: &InstanceId, signal: Signal) -> Result<(), SupervisorError>;

    /// The instances that live, by id.
    ///
    /// # Errors
    /// When the implementation has to ask elsewhere and cannot; neither one here ever does.
    async fn list(&self) -> Result<Vec<Instance>, SupervisorError>;

    /// Every event from this call on, without loss, for as long as the supervisor exists.
    ///
    /// When an end is reported, the whole tree is gone, its log is complete and `list` omits it.
    fn watch(&self) -> BoxStream<'static, InstanceEvent>;
}

/// What happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstanceEvent {
    /// It ended, by itself or because it was stopped.
    Exited {
        /// Which one.
        id: InstanceId,
        /// The labels it was started with.
        labels: BTreeMap<String, String>,
        /// How and when.
        exit: Exit,
    },
}
