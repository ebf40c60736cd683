use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::orders::patience;
use crate::wire::Command;
use crate::{Exit, Instance, InstanceEvent, InstanceId, Stop, SupervisorError};

/// How many ends are remembered, so that `stop` is idempotent.
const REMEMBERED: usize = 1000;

/// What a supervisor knows of its instances. No lock is held across an await.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    starting: HashSet<InstanceId>,
    live: BTreeMap<InstanceId, Live>,
    ended: HashMap<InstanceId, Exit>,
    /// The keys of `ended`, oldest first.
    order: VecDeque<InstanceId>,
    watchers: Vec<mpsc::UnboundedSender<InstanceEvent>>,
}

/// An instance and the way to it.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) instance: Instance,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    /// Filled once, when it has ended.
    pub(crate) exit: watch::Receiver<Option<Exit>>,
}

/// What is known of an id.
pub(crate) enum Known {
    Live(Live),
    Ended(Exit),
}

impl Registry {
    /// Claims an id for a start; dropping the claim gives it up.
    pub(crate) fn claim(self: &Arc<Self>, id: &InstanceId) -> Result<Claim, SupervisorError> {
        let mut inner = self.inner();
        if inner.live.contains_key(id) || !inner.starting.insert(id.clone()) {
            return Err(SupervisorError::AlreadyExists { id: id.clone() });
        }
        Ok(Claim {
            registry: Arc::downgrade(self),
            id: id.clone(),
        })
    }

    pub(crate) fn insert(&self, live: Live) {
        let mut inner = self.inner();
        let id = live.instance.id.clone();
        if inner.ended.remove(&id).is_some() {
            inner.order.retain(|ended| *ended != id);
        }
        inner.live.insert(id, live);
    }

    pub(crate) fn find(&self, id: &InstanceId) -> Result<Known, SupervisorError> {
        let inner = self.inner();
        let live = inner.live.get(id).cloned().map(Known::Live);
        live.or_else(|| inner.ended.get(id).copied().map(Known::Ended))
            .ok_or_else(|| SupervisorError::NotFound { id: id.clone() })
    }

    pub(crate) fn list(&self) -> Vec<Instance> {
        self.inner()
            .live
            .values()
            .map(|live| live.instance.clone())
            .collect()
    }

    /// Takes note of an end and tells the watchers.
    pub(crate) fn ended(&self, event: InstanceEvent) {
        let mut inner = self.inner();
        let InstanceEvent::Exited { id, exit, .. } = &event;
        inner.live.remove(id);
        if inner.ended.insert(id.clone(), *exit).is_none() {
            inner.order.push_back(id.clone());
        }
        if inner.order.len() > REMEMBERED
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.ended.remove(&oldest);
        }
        inner
            .watchers
            .retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    pub(crate) fn watch(&self) -> BoxStream<'static, InstanceEvent> {
        let (watcher, mut events) = mpsc::unbounded_channel();
        self.inner().watchers.push(watcher);
        stream::poll_fn(move |context| events.poll_recv(context)).boxed()
    }

    /// Tells an instance to stop, and waits for its end.
    pub(crate) async fn stopped(
        &self,
        id: &InstanceId,
        stop: &Stop,
    ) -> Result<Exit, SupervisorError> {
        let mut live = match self.find(id)? {
            Known::Ended(exit) => return Ok(exit),
            Known::Live(live) => live,
        };
        // A failure says that it has just ended.
        if live.commands.send(Command::Stop(*stop)).is_err() {
            tracing::debug!(%id, "told to stop as it ended");
        }
        // Once for the keeper, and once for the kill that comes after it.
        let patience = patience(stop).saturating_add(patience(&Stop::now()));
        let exit = timeout(patience, live.exit.wait_for(Option::is_some))
            .await
            .map_err(|_| SupervisorError::Unkillable { id: id.clone() })?
            .ok()
            .and_then(|exit| *exit);
        exit.ok_or_else(|| SupervisorError::NotFound { id: id.clone() })
    }

    pub(crate) fn signal(&self, id: &InstanceId, command: Command) -> Result<(), SupervisorError> {
        if let Known::Live(live) = self.find(id)?
            && live.commands.send(command).is_err()
        {
            tracing::debug!(%id, "signalled as it ended");
        }
        Ok(())
    }

    /// A panic inside leaves each of the maps whole.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that is being started.
#[derive(Debug)]
pub(crate) struct Claim {
    registry: Weak<Registry>,
    id: InstanceId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.inner().starting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExitStatus;

    fn event(id: &InstanceId) -> InstanceEvent {
        let exit = Exit::now(ExitStatus::Code(0));
        InstanceEvent::Exited {
            id: id.clone(),
            labels: BTreeMap::new(),
            exit,
        }
    }

    #[test]
    fn forgets_the_oldest_end_first() {
        let registry = Arc::new(Registry::default());
        let first = InstanceId::random();
        registry.ended(event(&first));
        for _ in 1..REMEMBERED {
            registry.ended(event(&InstanceId::random()));
        }
        assert!(registry.find(&first).is_ok());
        registry.ended(event(&InstanceId::random()));
        assert!(matches!(
            registry.find(&first),
            Err(SupervisorError::NotFound { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_that_nothing_heeds_is_given_up() {
        let registry = Arc::new(Registry::default());
        let instance = Instance::new(InstanceId::random(), 0, jiff::Timestamp::now());
        let (commands, mut orders) = mpsc::unbounded_channel();
        let (_exited, exit) = watch::channel(None);
        let id = instance.id.clone();
        registry.insert(Live {
            instance,
            commands,
            exit,
        });
        let result = registry.stopped(&id, &Stop::default()).await;
        assert!(
            matches!(result, Err(SupervisorError::Unkillable { .. })),
            "{result:?}"
        );
        assert_eq!(orders.try_recv(), Ok(Command::Stop(Stop::default())));
    }

    #[test]
    fn an_id_is_claimed_once_at_a_time() {
        let registry = Arc::new(Registry::default());
        let id = InstanceId::random();
        let claim = registry.claim(&id).unwrap();
        assert!(matches!(
            registry.claim(&id),
            Err(SupervisorError::AlreadyExists { .. })
        ));
        drop(claim);
        assert!(registry.claim(&id).is_ok());
    }
}
