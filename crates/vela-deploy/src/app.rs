use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Arc, OnceLock};

use vela_manifest::{AppName, Listen, Manifest};
use vela_protocol::{Serving, Who};
use vela_proxy::{DrainLimits, Replaced, RouteError};
use vela_release::{Owner as FileOwner, ReleaseId, ReleaseStore, Releases, retain};
use vela_supervisor::Instance;
use vela_supervisor::users::User;

use crate::desired::Desired;
use crate::dirs::AppDirs;
use crate::durable;
use crate::error::{EngineError, StateError};
use crate::hosts::{Hosts, Place};
use crate::keeper::{Begin, Keeper};
use crate::launch::{Launch, Running, StopPermit};
use crate::meta::Meta;
use crate::owner::Owner;
use crate::routing::{self, AppRoute};
use crate::secrets::Secrets;
use crate::shared::Shared;
use crate::sockets;
use crate::stack::Stack;
use crate::step_error::StepError;

/// One app as its actor sees it: what is on disk, and what runs.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) name: AppName,
    pub(crate) dirs: AppDirs,
    pub(crate) stack: Arc<Stack>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) shared: Arc<Shared>,
    /// Where the app is in the router's table.
    pub(crate) route: Arc<AppRoute>,
    pub(crate) desired: Desired,
    /// What runs, or should: nothing while the app is stopped.
    pub(crate) keeper: Option<Keeper>,
}

impl App {
    pub(crate) fn new(
        name: AppName,
        stack: Arc<Stack>,
        hosts: Arc<Hosts>,
        shared: Arc<Shared>,
    ) -> App {
        let dirs = stack.dirs.app(&name);
        App {
            route: Arc::new(AppRoute::new(
                &name,
                Arc::clone(&stack.router),
                stack.parking,
            )),
            name,
            dirs,
            stack,
            hosts,
            shared,
            desired: Desired::default(),
            keeper: None,
        }
    }

    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::new(self.dirs.secrets())
    }

    /// The app's release store; what it unpacks belongs to `user`.
    pub(crate) fn store(&self, user: Option<&User>) -> Result<Arc<dyn ReleaseStore>, StepError> {
        let owner = user.map(|user| FileOwner {
            uid: user.uid,
            gid: user.gid,
        });
        self.shared
            .store(owner, || self.stack.stores.open(self.dirs.root(), owner))
            .map_err(StepError::Store)
    }

    /// The user that the app runs as, and the directories that it needs. Idempotent.
    pub(crate) async fn prepare(&self, manifest: &Manifest) -> Result<Option<User>, StepError> {
        let data = self.dirs.data();
        let wanted = manifest.app.user.as_deref();
        let user = self
            .stack
            .users
            .user(&self.name, wanted, &data)
            .await
            .map_err(StepError::User)?;
        self.make_dirs(user.as_ref())?;
        if manifest.app.listen == Listen::Unix {
            self.make_sockets(user.as_ref())?;
        }
        Ok(user)
    }

    fn make_sockets(&self, user: Option<&User>) -> Result<(), StepError> {
        let sockets = self.dirs.sockets();
        if !sockets::fits(&self.dirs) {
            return Err(StepError::SocketPath { dir: sockets });
        }
        durable::make_dir(&sockets, 0o700).map_err(StateError::at(&sockets))?;
        if let Some(user) = user {
            std::os::unix::fs::chown(&sockets, Some(user.uid), Some(user.gid))
                .map_err(StateError::at(&sockets))?;
        }
        Ok(())
    }

    fn make_dirs(&self, user: Option<&User>) -> Result<(), StepError> {
        // The app's user passes through to its release and data; nobody lists what there is.
        let root = self.dirs.root();
        durable::make_dir(root, 0o711).map_err(StateError::at(root))?;
        let (logs, hook_logs) = (self.dirs.logs(), self.dirs.hook_logs());
        let (data, tmp) = (self.dirs.data(), self.dirs.tmp());
        for dir in [&logs, &hook_logs, &data, &tmp] {
            durable::make_dir(dir, 0o700).map_err(StateError::at(dir))?;
        }
        if let Some(user) = user {
            let owner = std::fs::metadata(&data)
                .map_err(StateError::at(&data))?
                .uid();
            if owner != user.uid && owner != rustix::process::geteuid().as_raw() {
                // What the app has written stays another user's, and the running release needs it meanwhile.
                return Err(StepError::OtherUser {
                    data,
                    owner,
                    user: user.name.clone(),
                });
            }
            for dir in [&data, &tmp] {
                std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid))
                    .map_err(StateError::at(dir))?;
            }
            std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711))
                .map_err(StateError::at(root))?;
        }
        Ok(())
    }

    /// What starts instances of a release that exists, with the secrets of `secrets_version`.
    pub(crate) async fn launch(
        &self,
        release: ReleaseId,
        manifest: Arc<Manifest>,
        operation: &str,
        secrets_version: u64,
    ) -> Result<Arc<Launch>, StepError> {
        let user = self.prepare(&manifest).await?;
        let releases = self
            .store(user.as_ref())?
            .list()
            .await
            .map_err(StepError::Store)?;
        let missing = || StepError::Store(vela_release::ReleaseError::NotFound { id: release });
        Ok(Arc::new(Launch {
            stack: Arc::clone(&self.stack),
            app: self.name.clone(),
            dirs: self.dirs.clone(),
            release: releases.get(release).ok_or_else(missing)?.clone(),
            manifest,
            operation: operation.to_owned(),
            secrets: self.secrets().read(secrets_version)?,
            services: tokio::sync::OnceCell::new(),
            user,
            route: Arc::clone(&self.route),
            error_pages: OnceLock::new(),
        }))
    }

    /// Removes the releases that are not kept, with their records. `protected` ones stay whatever their age.
    pub(crate) async fn cleanup(
        &self,
        keep: usize,
        protected: &[ReleaseId],
    ) -> Result<(), StepError> {
        let store = self.store(None)?;
        let releases = store.list().await.map_err(StepError::Store)?;
        let all: Vec<_> = releases.all.iter().map(|release| release.id).collect();
        for id in retain(&all, keep, protected) {
            store.remove(id).await.map_err(StepError::Store)?;
        }
        let releases = store.list().await.map_err(StepError::Store)?;
        // Records go after their releases, so that a crash leaves at most a record too many: removed here.
        for id in Meta::all(&self.dirs)? {
            if releases.get(id).is_none() {
                Meta::remove(&self.dirs, id)?;
            }
        }
        Ok(())
    }

    /// `app.toml`, for people: nothing decides by it.
    pub(crate) fn write_derived(&self, launch: &Launch) -> Result<(), StateError> {
        let text = format!(
            "# Derived from meta/{0}: what the current release was deployed with. Changes are overwritten.\n\n{1}",
            launch.release.id,
            launch.manifest.source()
        );
        let path = self.dirs.derived();
        durable::write(&path, text.as_bytes(), 0o600).map_err(StateError::at(&path))
    }

    /// The processes of the app, whatever they belong to.
    pub(crate) async fn own_instances(&self) -> Vec<Instance> {
        let all = self.stack.supervisor.list().await.unwrap_or_else(|error| {
            tracing::error!(app = %self.name, %error, "could not list the instances");
            Vec::new()
        });
        let is_own = |one: &Instance| {
            Owner::of(one).is_some_and(|owner| owner.app() == Some(self.name.as_str()))
        };
        all.into_iter().filter(is_own).collect()
    }

    /// Says that the app is down because it could not be restored, as far as it is known what it is.
    pub(crate) async fn report_unrestored(&self) {
        let releases = match self.store(None) {
            Ok(store) => store.list().await.unwrap_or_default(),
            Err(_) => Releases::default(),
        };
        let manifest = releases
            .current
            .and_then(|current| Meta::read_manifest(&self.dirs, current).ok());
        self.shared
            .set_stopped(releases.current, manifest.map(Arc::new), true);
    }

    /// Remembers the secrets that a release serves with, for a rollback to it.
    pub(crate) fn record_secrets(&self, release: ReleaseId) -> Result<(), StateError> {
        let mut meta = Meta::read(&self.dirs, release)?;
        if meta.secrets != self.desired.secrets {
            meta.secrets = self.desired.secrets;
            meta.update(&self.dirs, release)?;
        }
        Ok(())
    }

    /// What the app's users get, as far as its keeper knows.
    pub(crate) fn serving(&self) -> Serving {
        let Some(keeper) = &self.keeper else {
            return Serving::Nothing;
        };
        let release = keeper.launch.release.id.to_string();
        match self.shared.is_healthy() {
            true => Serving::Previous { release },
            false => Serving::Down { release },
        }
    }

    /// Lets a keeper have these instances.
    pub(crate) fn keep(&mut self, launch: Arc<Launch>, begin: Begin) {
        self.keeper = Some(Keeper::spawn(launch, begin, Arc::clone(&self.shared)));
    }

    /// Ends the keeping, and gives what was kept.
    pub(crate) async fn take_old(&mut self) -> Option<Old> {
        let keeper = self.keeper.take()?;
        let launch = Arc::clone(&keeper.launch);
        Some(Old {
            launch,
            running: keeper.retire().await,
        })
    }

    /// The current release and its manifest.
    pub(crate) async fn current_manifest(
        &self,
    ) -> Result<Option<(ReleaseId, Arc<Manifest>)>, StepError> {
        if !self.dirs.root().exists() {
            return Ok(None);
        }
        let releases = self.store(None)?.list().await.map_err(StepError::Store)?;
        let Some(current) = releases.current else {
            return Ok(None);
        };
        Ok(Some((
            current,
            Arc::new(Meta::read_manifest(&self.dirs, current)?),
        )))
    }

    /// An error of a step, as the answer to a request that has no events.
    pub(crate) fn cannot(&self, error: StepError) -> EngineError {
        EngineError::Prepare {
            app: self.name.to_string(),
            source: Box::new(error),
        }
    }

    /// Writes what is wanted; only what is on disk is acted on.
    pub(crate) fn set_desired(&mut self, desired: Desired) -> Result<(), StateError> {
        desired.write(&self.dirs.desired())?;
        self.desired = desired;
        Ok(())
    }

    /// A new operation on an app whose removal failed half-way: it is wanted again.
    pub(crate) fn call_off_removal(&mut self) -> Result<(), StateError> {
        match self.desired.removing {
            None => Ok(()),
            Some(_) => self.set_desired(Desired {
                removing: None,
                ..self.desired.clone()
            }),
        }
    }

    /// Gives up the hosts that the current release does not have. Without knowing which those are, none.
    pub(crate) async fn release_hosts(&self) {
        match self.current_manifest().await {
            Ok(Some((_, manifest))) => {
                self.hosts.keep_only(&self.name, &Place::all_of(&manifest));
            }
            Ok(None) => self.hosts.keep_only(&self.name, &[]),
            Err(error) => {
                tracing::warn!(app = %self.name, error = %error.report(), "keeping every host of the app");
            }
        }
    }

    /// Stops the app until it is started again: unroutes, drains and stops.
    pub(crate) async fn stop(&mut self, who: &Who) -> Result<(), EngineError> {
        tracing::info!(app = %self.name, by = %who, "stopping the app");
        self.set_desired(Desired {
            running: false,
            ..self.desired.clone()
        })?;
        let current = self.halt().await?;
        let (release, manifest) = current
            .map(|launch| (launch.release.id, Arc::clone(&launch.manifest)))
            .unzip();
        match release {
            Some(_) => self.shared.set_stopped(release, manifest, false),
            None => {
                let current = self.current_manifest().await.ok().flatten();
                let (release, manifest) = current.unzip();
                self.shared.set_stopped(release, manifest, false);
            }
        }
        Ok(())
    }

    /// Points the hosts of a stopped app at nothing: they stay the app's, and answer 503.
    pub(crate) async fn serve_nothing(
        &self,
        release: ReleaseId,
        manifest: &Manifest,
    ) -> Result<Option<Replaced>, RouteError> {
        let releases = match self.store(None) {
            Ok(store) => store.list().await.unwrap_or_default(),
            Err(_) => Releases::default(),
        };
        let pages = releases
            .get(release)
            .and_then(|release| routing::error_pages_if_any(&self.name, &release.path, manifest));
        let spec = routing::spec(&self.name, manifest, pages);
        self.route.apply(spec, Vec::new()).await
    }

    /// Unroutes, drains and stops what runs. The hosts stay the app's: they answer 503.
    pub(crate) async fn halt(&mut self) -> Result<Option<Arc<Launch>>, EngineError> {
        let Some(old) = self.take_old().await else {
            return Ok(None);
        };
        let replaced = old.launch.serve(&[]).await.map_err(EngineError::Route)?;
        old.stop(replaced)
            .await
            .map_err(|error| self.cannot(error))?;
        Ok(Some(old.launch))
    }
}

/// What an operation replaces.
#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) launch: Arc<Launch>,
    pub(crate) running: Vec<Running>,
}

impl Old {
    /// Drains what no route points at any more, then stops it.
    pub(crate) async fn stop(&self, replaced: Option<Replaced>) -> Result<(), StepError> {
        let permit = self.drain(replaced, self.patience()).await;
        self.launch.stop(&self.running, permit).await.map(drop)
    }

    /// As long as the old release's own manifest allows.
    pub(crate) fn patience(&self) -> DrainLimits {
        routing::patience(&self.launch.manifest)
    }

    /// Waits for the requests of the old instances. With nothing replaced there was no route to them: they had died,
    /// or came over from another daemon and had not proved healthy yet.
    pub(crate) async fn drain(
        &self,
        replaced: Option<Replaced>,
        limits: DrainLimits,
    ) -> StopPermit {
        match replaced {
            Some(replaced) => {
                StopPermit::Drained(self.launch.stack.router.drain(replaced, limits).await)
            }
            None => StopPermit::NeverRouted,
        }
    }
}
