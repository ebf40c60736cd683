use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use uuid::Uuid;
use vela_manifest::AppName;
use vela_protocol::{
    AppStatus, DeployRequest, HistoryEntry, LogLine, Operation as Kind, ReleaseSummary,
    RestartRequest, RollbackRequest, RouterStats, SecretChange, SecretNames, StartRequest, Who,
};

use crate::accept::{list_releases, parse_name, rollback_target, tell};
use crate::actor::{Command, Common};
use crate::certificate_history;
use crate::desired::Removing;
use crate::durable;
use crate::error::{EngineError, StateError};
use crate::history::{self, Events};
use crate::hosts::Hosts;
use crate::meta::Meta;
use crate::operation::What;
use crate::service_views::lines_of;
use crate::shared::{Claim, NotCancelled, Shared};
use crate::stack::Stack;
use crate::uploads::Uploads;

/// The deploy engine: every app of one data directory, each run by an actor of its own.
///
/// Clones are the same engine. Dropping it leaves the instances running, as a crash would: see
/// [`shutdown`](Engine::shutdown).
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) stack: Arc<Stack>,
    pub(crate) common: Arc<Common>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) apps: Mutex<BTreeMap<AppName, Handle>>,
    /// Held while a new version of secrets is written.
    pub(crate) secrets_writer: Mutex<()>,
    pub(crate) stopping: AtomicBool,
    /// What brings the services back after the start.
    pub(crate) resuming: Mutex<Vec<AbortHandle>>,
    /// Locked for the life of the engine.
    pub(crate) _lock: File,
}

#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl Engine {
    /// Where the state is kept.
    pub fn data_dir(&self) -> &std::path::Path {
        self.inner.stack.dirs.data_dir()
    }

    /// Where artifacts are received before they are deployed.
    pub fn uploads(&self) -> &Uploads {
        &self.inner.common.uploads
    }

    /// Deploys an uploaded artifact. Idempotent by the request's id: asking again gives the events of the first.
    ///
    /// The operation belongs to the engine: dropping the events does not stop it, [`cancel`](Engine::cancel) does.
    ///
    /// # Errors
    /// When the request is refused before anything was done; what fails later is the last event.
    pub async fn deploy(
        &self,
        app: &str,
        request: DeployRequest,
        who: Who,
    ) -> Result<Events, EngineError> {
        let accepted = self.accept_deploy(app, &request, who).await;
        if accepted.is_err() {
            self.uploads().discard(request.upload)?;
        }
        accepted
    }

    /// Makes an earlier release current again, with its own manifest and its last secrets.
    ///
    /// # Errors
    /// As for [`deploy`](Engine::deploy); also when there is no such release.
    pub async fn rollback(
        &self,
        app: &str,
        request: RollbackRequest,
        who: Who,
    ) -> Result<Events, EngineError> {
        let RollbackRequest {
            deploy,
            to,
            hooks,
            client,
        } = request;
        let choose = async |name: AppName, handle: Handle| {
            let dirs = self.inner.stack.dirs.app(&name);
            let release = rollback_target(&dirs.history(), &name, &handle, to.as_deref()).await?;
            let secrets = Meta::read(&dirs, release)?.secrets;
            Ok((release, secrets, What::Rollback { release, hooks }))
        };
        self.accept_existing(app, Kind::Rollback, (deploy, client), who, choose)
            .await
    }

    /// Starts new instances of the current release, with the newest secrets, and switches to them.
    ///
    /// # Errors
    /// As for [`deploy`](Engine::deploy); also when the app has no release.
    pub async fn restart(
        &self,
        app: &str,
        request: RestartRequest,
        who: Who,
    ) -> Result<Events, EngineError> {
        let choose = async |name: AppName, handle: Handle| {
            let releases = list_releases(&handle).await?;
            let missing = || EngineError::NoRelease {
                app: name.to_string(),
            };
            let release = releases.current.ok_or_else(missing)?;
            Ok((
                release,
                self.secrets(&name).newest()?,
                What::Restart { release },
            ))
        };
        let RestartRequest { deploy, client } = request;
        self.accept_existing(app, Kind::Restart, (deploy, client), who, choose)
            .await
    }

    /// Starts an app that was stopped; one that runs is restarted.
    ///
    /// # Errors
    /// As for [`restart`](Engine::restart).
    pub async fn start(
        &self,
        app: &str,
        request: StartRequest,
        who: Who,
    ) -> Result<Events, EngineError> {
        self.restart(app, request, who).await
    }

    /// Stops an app until it is started again, also over a reboot: its route answers 503, its requests are drained.
    ///
    /// # Errors
    /// When the app is unknown or busy, or the wish can't be written down.
    pub async fn stop(&self, app: &str, who: Who) -> Result<AppStatus, EngineError> {
        let (name, handle) = self.existing(app)?;
        let claim = self.hold(&name, &handle, Kind::Stop, &who)?;
        tell(&handle, |reply| Command::Stop { claim, who, reply }).await?;
        self.status(app)
    }

    /// Removes an app: unroutes, drains, stops it, takes its services away and deletes its releases. Its data, that in
    /// its services included, its secrets and history stay unless `purge` is set. A removal that a crash interrupts is finished at the next start.
    ///
    /// # Errors
    /// When the app is unknown or busy, or a file can't be removed.
    pub async fn remove(&self, app: &str, purge: bool, who: Who) -> Result<(), EngineError> {
        let (name, handle) = match self.existing(app) {
            // What a removal without `purge` has kept is no app any more, but can still be purged.
            Err(EngineError::NoSuchApp { .. }) if purge && self.has_directory(app)? => {
                let name = parse_name(app)?;
                let handle = self.handle_of(&name);
                (name, handle)
            }
            known => known?,
        };
        let claim = self.hold(&name, &handle, Kind::Remove, &who)?;
        let removing = if purge {
            Removing::Purge
        } else {
            Removing::Keep
        };
        tell(&handle, |reply| Command::Remove {
            claim,
            removing,
            who,
            reply,
        })
        .await
    }

    /// Asks the operation in progress, or the one with this id alone, to undo itself; it does so before its traffic is
    /// switched.
    ///
    /// # Errors
    /// When nothing is in progress, or it is too late.
    pub async fn cancel(
        &self,
        app: &str,
        deploy: Option<Uuid>,
        who: Who,
    ) -> Result<(), EngineError> {
        let (_, handle) = self.existing(app)?;
        let app = app.to_owned();
        handle.shared.cancel(deploy, who).map_err(|why| match why {
            NotCancelled::Idle => EngineError::NothingToCancel { app },
            NotCancelled::TooLate => EngineError::TooLateToCancel { app },
        })
    }

    /// The state of one app. Never waits, whatever the app is doing.
    ///
    /// # Errors
    /// When the app is unknown.
    pub fn status(&self, app: &str) -> Result<AppStatus, EngineError> {
        let (_, handle) = self.existing(app)?;
        let mut status = handle.shared.status(self.inner.stack.clock.now());
        status.tls = self.tls().and_then(|tls| tls.of_app(&status));
        Ok(status)
    }

    /// The state of every app, by name. Never waits.
    pub fn apps(&self) -> Vec<AppStatus> {
        let now = self.inner.stack.clock.now();
        let tls = self.tls();
        let apps = self.apps_locked();
        apps.values()
            .filter(|handle| handle.shared.exists())
            .map(|handle| {
                let mut status = handle.shared.status(now);
                status.tls = tls.as_ref().and_then(|tls| tls.of_app(&status));
                status
            })
            .collect()
    }

    /// What the router has done since the start, if it knows. Never waits.
    pub fn router_stats(&self) -> Option<RouterStats> {
        let stats = self.inner.stack.router.stats()?;
        Some(RouterStats {
            requests: stats.requests,
            retries: stats.retries,
            parked_now: stats.parked_now,
            parked_total: stats.parked_total,
            upstream_errors: stats.upstream_errors,
            connections: stats.connections,
            in_flight: stats.in_flight,
        })
    }

    /// What the router counts, for a monitoring system, if it keeps metrics, and how the apps' certificates stand. Never
    /// waits.
    pub fn router_metrics(&self) -> Option<vela_proxy::Metrics> {
        let metrics = self.inner.stack.router.metrics()?;
        Some(match &self.inner.stack.certifier {
            Some(certifier) => metrics.with_certified(certifier.status()),
            None => metrics,
        })
    }

    /// Every release that was ever deployed, newest first.
    ///
    /// # Errors
    /// When the app is unknown, or its state can't be read.
    pub async fn releases(&self, app: &str) -> Result<Vec<ReleaseSummary>, EngineError> {
        let (name, handle) = self.existing(app)?;
        let kept = list_releases(&handle).await?;
        Ok(crate::summary::releases(
            &self.inner.stack.dirs.app(&name).history(),
            &kept,
        )?)
    }

    /// Every operation, and what became of the app's certificates, newest first.
    ///
    /// # Errors
    /// When the app is unknown, or its state can't be read.
    pub async fn history(&self, app: &str) -> Result<Vec<HistoryEntry>, EngineError> {
        let (name, _) = self.existing(app)?;
        let dirs = self.inner.stack.dirs.app(&name);
        let records = history::read_all(&dirs.history())?;
        let mut entries: Vec<_> = records.iter().filter_map(history::Record::entry).collect();
        entries.extend(certificate_history::read(&dirs)?);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.started));
        Ok(entries)
    }

    /// The events of an operation from the one numbered `from`, those to come included. Works for ended ones too: the
    /// terminal event is always given, for a power cut may have taken numbers back.
    ///
    /// # Errors
    /// When no operation has that id.
    pub async fn attach(&self, deploy: Uuid, from: u64) -> Result<Events, EngineError> {
        self.follow(deploy, from).await
    }

    /// The last lines of an app's log, and with `follow` those to come.
    ///
    /// # Errors
    /// When the app is unknown, or its log can't be read.
    pub async fn logs(
        &self,
        app: &str,
        lines: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, EngineError> {
        let (name, _) = self.existing(app)?;
        lines_of(self.inner.stack.dirs.app(&name).log(), lines, follow)
    }

    /// The names of an app's secrets; never their values. An app that was never deployed may have some.
    ///
    /// # Errors
    /// When the name is not one, or the secrets can't be read.
    pub async fn secret_names(&self, app: &str) -> Result<SecretNames, EngineError> {
        Ok(self.secrets(&parse_name(app)?).names()?)
    }

    /// Writes the next version of an app's secrets: the next deploy or restart takes it. Secrets may be set before
    /// the first deploy.
    ///
    /// # Errors
    /// When a name is not one of an environment variable, or the file can't be written.
    pub async fn change_secrets(
        &self,
        app: &str,
        change: SecretChange,
        who: Who,
    ) -> Result<SecretNames, EngineError> {
        let name = parse_name(app)?;
        tracing::info!(app = %name, by = %who, set = ?change.set.keys(), remove = ?change.remove, "changing secrets");
        let root = self.inner.stack.dirs.app(&name);
        durable::make_dir(root.root(), 0o711).map_err(StateError::at(root.root()))?;
        // One writer at a time: the next version's number is read from the directory.
        let writer = &self.inner.secrets_writer;
        let _writing = writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.secrets(&name).change(&change)
    }

    pub(crate) fn resuming(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        let resuming = &self.inner.resuming;
        resuming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_directory(&self, app: &str) -> Result<bool, EngineError> {
        Ok(self.inner.stack.dirs.app(&parse_name(app)?).root().exists())
    }

    /// Takes the app for what can't be cancelled.
    pub(crate) fn hold(
        &self,
        name: &AppName,
        handle: &Handle,
        kind: Kind,
        who: &Who,
    ) -> Result<Claim, EngineError> {
        let claim = self
            .try_claim(handle, kind, Uuid::new_v4(), who)?
            .map_err(|holder| EngineError::Busy {
                app: name.to_string(),
                holder,
            })?;
        claim.refuse_cancel();
        Ok(claim)
    }

    pub(crate) fn secrets(&self, name: &AppName) -> crate::secrets::Secrets {
        crate::secrets::Secrets::new(self.inner.stack.dirs.app(name).secrets())
    }

    pub(crate) fn existing(&self, app: &str) -> Result<(AppName, Handle), EngineError> {
        let name = parse_name(app)?;
        let handle = self
            .apps_locked()
            .get(&name)
            .filter(|handle| handle.shared.exists())
            .cloned();
        let handle = handle.ok_or_else(|| EngineError::NoSuchApp {
            app: app.to_owned(),
        })?;
        Ok((name, handle))
    }

    pub(crate) fn apps_locked(&self) -> MutexGuard<'_, BTreeMap<AppName, Handle>> {
        self.inner
            .apps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
