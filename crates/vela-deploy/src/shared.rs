use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use uuid::Uuid;
use vela_manifest::{AppName, Manifest};
use vela_protocol::{
    AppState, AppStatus, Event, InProgress, InstanceStatus, MaintenanceStatus, Operation, Step, Who,
};
use vela_release::{Owner, ReleaseError, ReleaseId, ReleaseStore};

use crate::launch::{Launch, Running, emit};

/// What is known of an app without asking its actor: `status` never waits for an operation.
#[derive(Debug)]
pub(crate) struct Shared {
    name: AppName,
    /// The app's release store and whom its files belong to: opened once, for opening it sweeps.
    store: Mutex<Option<OpenedStore>>,
    state: Mutex<State>,
    /// The daemon stops: what need not be waited for is not.
    hurry: watch::Sender<bool>,
}

/// A store, and whom what it unpacks belongs to.
type OpenedStore = (Option<Owner>, Arc<dyn ReleaseStore>);

#[derive(Debug, Default)]
struct State {
    /// Whether there is anything of the app on disk.
    exists: bool,
    wanted: bool,
    release: Option<ReleaseId>,
    manifest: Option<Arc<Manifest>>,
    instances: Vec<InstanceStatus>,
    health: Option<Health>,
    restarts: u64,
    maintenance: Option<MaintenanceStatus>,
    holder: Option<Holder>,
}

#[derive(Debug)]
struct Holder {
    in_progress: InProgress,
    cancel: watch::Sender<Option<Who>>,
    cancellable: bool,
    observer: Option<UnboundedSender<Event>>,
}

/// How an app's instances are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Starting,
    Healthy,
    Crashing,
}

/// Why an operation was not cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotCancelled {
    Idle,
    TooLate,
}

impl Shared {
    pub(crate) fn new(name: AppName) -> Shared {
        Shared {
            name,
            store: Mutex::default(),
            state: Mutex::default(),
            hurry: watch::Sender::new(false),
        }
    }

    /// The app's store for files of `owner`, opened by `open` if it is not; without an owner whichever is open.
    pub(crate) fn store(
        &self,
        owner: Option<Owner>,
        open: impl FnOnce() -> Result<Arc<dyn ReleaseStore>, ReleaseError>,
    ) -> Result<Arc<dyn ReleaseStore>, ReleaseError> {
        let mut opened = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some((of, store)) if owner.is_none() || *of == owner => Ok(Arc::clone(store)),
            _ => Ok(Arc::clone(&opened.insert((owner, open()?)).1)),
        }
    }

    /// The app's store, if its actor has opened it.
    pub(crate) fn opened_store(&self) -> Option<Arc<dyn ReleaseStore>> {
        let opened = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map(|(_, store)| Arc::clone(store))
    }

    /// The app's directories were removed: the next use opens the store anew.
    pub(crate) fn forget_store(&self) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn exists(&self) -> bool {
        self.lock().exists
    }

    pub(crate) fn set_exists(&self, exists: bool) {
        self.lock().exists = exists;
    }

    /// The app runs, or should: these instances of this launch.
    pub(crate) fn set_instances(&self, launch: &Launch, running: &[Running], health: Health) {
        let status = |one: &Running| InstanceStatus {
            instance: one.instance.id.to_string(),
            release: launch.release.id.to_string(),
            pid: one.instance.pid,
            port: one.instance.port,
            address: Some(launch.address(one).to_string()),
            since: one.instance.started_at,
        };
        let mut state = self.lock();
        state.exists = true;
        state.wanted = true;
        state.release = Some(launch.release.id);
        state.manifest = Some(Arc::clone(&launch.manifest));
        state.instances = running.iter().map(status).collect();
        state.health = Some(health);
    }

    /// The app is stopped at this release, or was never deployed.
    pub(crate) fn set_stopped(
        &self,
        release: Option<ReleaseId>,
        manifest: Option<Arc<Manifest>>,
        wanted: bool,
    ) {
        let mut state = self.lock();
        state.wanted = wanted;
        state.release = release;
        state.manifest = manifest;
        state.instances.clear();
        state.health = None;
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.lock().health == Some(Health::Healthy)
    }

    /// Waits until it is known whether the instances of a start are healthy, half a minute at most.
    pub(crate) async fn settled(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.lock().health == Some(Health::Starting) && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn set_maintenance(&self, maintenance: Option<MaintenanceStatus>) {
        self.lock().maintenance = maintenance;
    }

    pub(crate) fn count_restart(&self) {
        self.lock().restarts += 1;
    }

    /// Tells the operation in progress, if any, what happened beside it.
    pub(crate) fn observe(&self, event: Event) {
        let observer = self
            .lock()
            .holder
            .as_ref()
            .and_then(|holder| holder.observer.clone());
        if let Some(observer) = observer {
            emit(&observer, event);
        }
    }

    /// Takes the app for one operation, or says which has it.
    pub(crate) fn claim(
        self: &Arc<Self>,
        operation: Operation,
        deploy: Uuid,
        by: Who,
        since: Timestamp,
    ) -> Result<Claim, Box<InProgress>> {
        let mut state = self.lock();
        if let Some(holder) = &state.holder {
            return Err(Box::new(holder.in_progress.clone()));
        }
        let (cancel, cancelled) = watch::channel(None);
        let in_progress = InProgress {
            deploy,
            operation,
            by,
            since,
            step: None,
        };
        state.holder = Some(Holder {
            in_progress,
            cancel,
            cancellable: true,
            observer: None,
        });
        Ok(Claim {
            shared: Arc::clone(self),
            cancelled,
        })
    }

    /// From now on nothing is waited for that goes on by itself.
    pub(crate) fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    /// Resolves when there is no time for what goes on by itself.
    pub(crate) async fn hurried(&self) {
        // The sender lives as long as this.
        drop(self.hurry.subscribe().wait_for(|hurry| *hurry).await);
    }

    /// Whether the app is held by this operation, and that is one with a history.
    pub(crate) fn is_begun_by(&self, deploy: Uuid) -> bool {
        let state = self.lock();
        state.holder.as_ref().is_some_and(|holder| {
            let InProgress {
                deploy: held_by,
                operation,
                ..
            } = &holder.in_progress;
            *held_by == deploy
                && matches!(
                    operation,
                    Operation::Deploy | Operation::Rollback | Operation::Restart
                )
        })
    }

    /// Asks the operation in progress to undo itself, if it is `deploy` or that does not matter.
    pub(crate) fn cancel(&self, deploy: Option<Uuid>, by: Who) -> Result<(), NotCancelled> {
        match &self.lock().holder {
            None => Err(NotCancelled::Idle),
            Some(holder) if deploy.is_some_and(|wanted| wanted != holder.in_progress.deploy) => {
                Err(NotCancelled::Idle)
            }
            Some(holder) if !holder.cancellable => Err(NotCancelled::TooLate),
            Some(holder) => {
                holder.cancel.send_replace(Some(by));
                Ok(())
            }
        }
    }

    pub(crate) fn status(&self, now: Timestamp) -> AppStatus {
        let state = self.lock();
        let first = state.instances.first();
        let app = state.manifest.as_ref().map(|manifest| &manifest.app);
        let uptime = first.map(|one| now.duration_since(one.since).as_secs());
        AppStatus {
            name: self.name.to_string(),
            domain: app
                .and_then(|app| app.domain.as_ref())
                .map(ToString::to_string),
            aliases: app
                .map(|app| app.aliases.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            release: state.release.map(|release| release.to_string()),
            strategy: state
                .manifest
                .as_ref()
                .map(|manifest| manifest.deploy.strategy.to_string()),
            state: state.app_state(),
            pid: first.map(|one| one.pid),
            port: first.and_then(|one| one.port),
            uptime_seconds: uptime.map(|seconds| u64::try_from(seconds).unwrap_or(0)),
            health: state.health.map(|health| {
                let name = match health {
                    Health::Starting => "starting",
                    Health::Healthy => "healthy",
                    Health::Crashing => "crashing",
                };
                name.to_owned()
            }),
            restarts: state.restarts,
            maintenance: state.maintenance.clone(),
            instances: state.instances.clone(),
            tls: None,
            deploying: state
                .holder
                .as_ref()
                .map(|holder| holder.in_progress.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn app_state(&self) -> AppState {
        match (self.release, self.wanted, self.health) {
            (None, ..) => AppState::Empty,
            (_, false, _) => AppState::Stopped,
            (_, _, Some(Health::Healthy)) => AppState::Running,
            (_, _, Some(Health::Starting)) => AppState::Starting,
            (_, _, Some(Health::Crashing) | None) => AppState::Down,
        }
    }
}

/// The right to change an app, held by one operation; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    shared: Arc<Shared>,
    cancelled: watch::Receiver<Option<Who>>,
}

impl Claim {
    /// Who asked to cancel the operation, if anyone did.
    pub(crate) fn cancelled_by(&self) -> Option<Who> {
        self.cancelled.borrow().clone()
    }

    /// Resolves when someone asks to cancel the operation.
    pub(crate) fn cancellation(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut cancelled = self.cancelled.clone();
        async move {
            if cancelled.wait_for(Option::is_some).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// From here on the operation is finished, whoever asks. Gives false when someone asked before.
    pub(crate) fn refuse_cancel(&self) -> bool {
        let mut state = self.shared.lock();
        if let Some(holder) = &mut state.holder {
            holder.cancellable = false;
        }
        self.cancelled.borrow().is_none()
    }

    pub(crate) fn set_step(&self, step: Step) {
        if let Some(holder) = &mut self.shared.lock().holder {
            holder.in_progress.step = Some(step);
        }
    }

    /// Where to send what happens beside the operation.
    pub(crate) fn set_observer(&self, observer: UnboundedSender<Event>) {
        if let Some(holder) = &mut self.shared.lock().holder {
            holder.observer = Some(observer);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.lock().holder = None;
    }
}
