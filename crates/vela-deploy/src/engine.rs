use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use vela_manifest::{AppName, Manifest};
use vela_protocol::{
    AppStatus, DeployRequest, HistoryEntry, LogLine, Operation as Kind, ReleaseSummary,
    RestartRequest, RollbackRequest, RouterStats, SecretChange, SecretNames, StartRequest, Who,
};
use vela_release::{Artifact, ReleaseId, Releases};
use vela_supervisor::{Instance, Stop};

use crate::actor::{self, Command, Common};
use crate::app::App;
use crate::desired::Removing;
use crate::durable;
use crate::error::{EngineError, OpenError, StateError};
use crate::history::{self, Events};
use crate::hosts::Hosts;
use crate::meta::Meta;
use crate::operation::{Request, What};
use crate::owner::Owner;
use crate::shared::{Claim, NotCancelled, Shared};
use crate::stack::Stack;
use crate::task::stream as stream_of;
use crate::uploads::Uploads;

/// The deploy engine: every app of one data directory, each run by an actor of its own.
///
/// Clones are the same engine. Dropping it leaves the instances running, as a crash would: see
/// [`shutdown`](Engine::shutdown).
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stack: Arc<Stack>,
    common: Arc<Common>,
    hosts: Arc<Hosts>,
    apps: Mutex<BTreeMap<AppName, Handle>>,
    stopping: AtomicBool,
    /// Locked for the life of the engine.
    _lock: File,
}

#[derive(Debug, Clone)]
struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Engine {
    /// Takes the data directory and restores every app in it, in parallel.
    ///
    /// Returns when every app's route is in the router's table, pointing at an instance or parked: from then on it
    /// is right to accept requests. Instances that outlived the last daemon are adopted, not restarted; what the last
    /// daemon was interrupted in is finished or undone in the background.
    ///
    /// # Errors
    /// When another engine works on the directory, or it can't be read and written.
    pub async fn open(stack: Stack) -> Result<Engine, OpenError> {
        let lock = lock(&stack)?;
        for (dir, mode) in [
            (stack.dirs.data_dir().to_owned(), 0o711),
            (stack.dirs.apps(), 0o711),
        ] {
            durable::make_dir(&dir, mode)
                .map_err(|source| OpenError::State(StateError::Io { path: dir, source }))?;
        }
        let uploads = Uploads::open(stack.dirs.staging()).map_err(OpenError::State)?;
        let alive = stack.supervisor.list().await.map_err(OpenError::Adopt)?;
        let engine = Engine {
            inner: Arc::new(Inner {
                stack: Arc::new(stack),
                common: Arc::new(Common::new(uploads)),
                hosts: Arc::default(),
                apps: Mutex::default(),
                stopping: AtomicBool::new(false),
                _lock: lock,
            }),
        };
        engine.restore(alive).await?;
        Ok(engine)
    }

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
        let (name, handle) = self.existing(app)?;
        if let Some(events) = self.known(&name, request.deploy)? {
            return Ok(events);
        }
        let who = who_is(who, request.client);
        let claim = self.claim(&name, &handle, Kind::Rollback, request.deploy, &who)?;
        let release = rollback_target(&name, &handle, request.to.as_deref()).await?;
        let dirs = self.inner.stack.dirs.app(&name);
        let manifest = Arc::new(Meta::read_manifest(&dirs, release)?);
        let secrets = Meta::read(&dirs, release)?.secrets;
        let what = What::Rollback {
            release,
            hooks: request.hooks,
        };
        self.operate(
            &name,
            &handle,
            claim,
            Request {
                deploy: request.deploy,
                who,
                manifest,
                secrets,
                what,
            },
            None,
        )
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
        let (name, handle) = self.existing(app)?;
        if let Some(events) = self.known(&name, request.deploy)? {
            return Ok(events);
        }
        let who = who_is(who, request.client);
        let claim = self.claim(&name, &handle, Kind::Restart, request.deploy, &who)?;
        let releases = list_releases(&handle).await?;
        let release = releases.current.ok_or_else(|| EngineError::NoRelease {
            app: name.to_string(),
        })?;
        let dirs = self.inner.stack.dirs.app(&name);
        let manifest = Arc::new(Meta::read_manifest(&dirs, release)?);
        let secrets = self.secrets(&name).newest()?;
        let what = What::Restart { release };
        self.operate(
            &name,
            &handle,
            claim,
            Request {
                deploy: request.deploy,
                who,
                manifest,
                secrets,
                what,
            },
            None,
        )
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
        let claim = self.claim(&name, &handle, Kind::Stop, Uuid::new_v4(), &who)?;
        tell(&handle, |reply| Command::Stop { claim, who, reply }).await?;
        self.status(app)
    }

    /// Removes an app: unroutes, drains, stops it and deletes its releases. Its data, secrets and history stay unless
    /// `purge` is set. A removal that a crash interrupts is finished at the next start.
    ///
    /// # Errors
    /// When the app is unknown or busy, or a file can't be removed.
    pub async fn remove(&self, app: &str, purge: bool, who: Who) -> Result<(), EngineError> {
        let (name, handle) = self.existing(app)?;
        let claim = self.claim(&name, &handle, Kind::Remove, Uuid::new_v4(), &who)?;
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
        Ok(handle.shared.status(self.inner.stack.clock.now()))
    }

    /// The state of every app, by name. Never waits.
    pub fn apps(&self) -> Vec<AppStatus> {
        let now = self.inner.stack.clock.now();
        let apps = self.apps_locked();
        apps.values()
            .filter(|handle| handle.shared.exists())
            .map(|handle| handle.shared.status(now))
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

    /// Every operation, newest first.
    ///
    /// # Errors
    /// When the app is unknown, or its state can't be read.
    pub async fn history(&self, app: &str) -> Result<Vec<HistoryEntry>, EngineError> {
        let (name, _) = self.existing(app)?;
        let records = history::read_all(&self.inner.stack.dirs.app(&name).history())?;
        Ok(records
            .iter()
            .rev()
            .filter_map(history::Record::entry)
            .collect())
    }

    /// The events of an operation from the one numbered `from`, those to come included. Works for ended ones too.
    ///
    /// # Errors
    /// When no operation has that id.
    pub async fn attach(&self, deploy: Uuid, from: u64) -> Result<Events, EngineError> {
        if let Some(feed) = self.inner.common.feed(deploy) {
            return Ok(feed.events(from));
        }
        let names: Vec<_> = self.apps_locked().keys().cloned().collect();
        for name in names {
            if let Some(record) = self.recorded(&name, deploy)? {
                return Ok(replay(record, from));
            }
        }
        Err(EngineError::NoSuchDeploy { deploy })
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
        let path = self.inner.stack.dirs.app(&name).log();
        let at = |source| {
            EngineError::State(StateError::Io {
                path: path.clone(),
                source,
            })
        };
        let line = |line: vela_supervisor::logs::LogLine| LogLine {
            time: line.time,
            stream: stream_of(line.stream),
            text: line.text,
        };
        if follow {
            let lines = vela_supervisor::logs::tail_and_follow(&path, lines).map_err(at)?;
            return Ok(lines
                .take_while(|line| std::future::ready(line.is_ok()))
                .filter_map(|l| std::future::ready(l.ok()))
                .map(line)
                .boxed());
        }
        let found = vela_supervisor::logs::tail(&path, lines).map_err(at)?;
        Ok(stream::iter(found).map(line).boxed())
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
        let _writing = self.apps_locked();
        self.secrets(&name).change(&change)
    }

    /// Ends the engine's work. Operations that can still be undone are; others are finished. The instances go on
    /// under their shims, unless `stop_apps` is set.
    pub async fn shutdown(&self, stop_apps: bool) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        let handles: Vec<_> = self.apps_locked().values().cloned().collect();
        let by = Who {
            uid: None,
            user: "vela".to_owned(),
            client: Some("the daemon was stopped".to_owned()),
        };
        let ends = handles.iter().map(|handle| {
            let by = by.clone();
            async move {
                if let Err(why) = handle.shared.cancel(None, by) {
                    tracing::debug!(?why, "nothing to cancel");
                }
                let (reply, ended) = oneshot::channel();
                let command = Command::Shutdown {
                    stop_instances: stop_apps,
                    reply,
                };
                if handle.commands.send(command).await.is_err() || ended.await.is_err() {
                    tracing::error!("an app's actor had ended by itself");
                }
            }
        });
        futures::future::join_all(ends).await;
    }

    async fn restore(&self, alive: Vec<Instance>) -> Result<(), OpenError> {
        let apps = self.inner.stack.dirs.apps();
        let at = |source| {
            OpenError::State(StateError::Io {
                path: apps.clone(),
                source,
            })
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&apps).map_err(at)? {
            let file_name = entry.map_err(at)?.file_name();
            match file_name.to_str().map(AppName::parse) {
                Some(Ok(name)) => names.push(name),
                _ => tracing::warn!(?file_name, "not an app's directory"),
            }
        }
        let mut orphans = alive;
        let ready: Vec<_> = names
            .into_iter()
            .map(|name| {
                let is_own = |one: &mut Instance| {
                    Owner::of(one).is_some_and(|owner| owner.app() == name.as_str())
                };
                let own = orphans.extract_if(.., is_own).collect();
                self.spawn(name, Some(own)).1
            })
            .collect();
        for orphan in orphans {
            tracing::warn!(instance = %orphan.id, labels = ?orphan.labels, pid = orphan.pid, "a process of no known app");
            if Owner::of(&orphan).is_some()
                && let Err(error) = self
                    .inner
                    .stack
                    .supervisor
                    .stop(&orphan.id, &Stop::default())
                    .await
            {
                tracing::error!(instance = %orphan.id, %error, "could not stop it");
            }
        }
        for one in ready {
            if one.await.is_err() {
                tracing::error!("an app's actor ended before its route was known");
            }
        }
        Ok(())
    }

    /// Starts an app's actor. `alive` is what the last daemon left running of it, or nothing for a new app.
    fn spawn(
        &self,
        name: AppName,
        alive: Option<Vec<Instance>>,
    ) -> (Handle, oneshot::Receiver<()>) {
        let mut apps = self.apps_locked();
        let shared = Arc::new(Shared::new(name.clone()));
        let (commands, received) = mpsc::channel(4);
        let (ready, is_ready) = oneshot::channel();
        let (stack, hosts) = (Arc::clone(&self.inner.stack), Arc::clone(&self.inner.hosts));
        let app = App::new(name.clone(), stack, hosts, Arc::clone(&shared));
        tokio::spawn(actor::run(
            app,
            Arc::clone(&self.inner.common),
            alive,
            received,
            ready,
        ));
        let handle = Handle { shared, commands };
        apps.insert(name, handle.clone());
        (handle, is_ready)
    }

    async fn accept_deploy(
        &self,
        app: &str,
        request: &DeployRequest,
        who: Who,
    ) -> Result<Events, EngineError> {
        let name = parse_name(app)?;
        if let Some(events) = self.known(&name, request.deploy)? {
            return Ok(events);
        }
        let manifest = parse_manifest(&name, &request.manifest)?;
        let digest = || EngineError::Digest {
            sha256: request.sha256.clone(),
        };
        let sha256 = request.sha256.parse().map_err(|_| digest())?;
        if manifest.deploy.strategy == vela_manifest::Strategy::Sequential
            && self.inner.stack.park.is_none()
        {
            return Err(EngineError::CannotPark {
                strategy: manifest.deploy.strategy.to_string(),
            });
        }
        let path = self
            .uploads()
            .find(request.upload)
            .ok_or(EngineError::NoSuchUpload { id: request.upload })?;
        let known = self.apps_locked().get(&name).cloned();
        let handle = match known {
            Some(handle) => handle,
            None => self.spawn(name.clone(), None).0,
        };
        let who = who_is(who, request.client.clone());
        let claim = self.claim(&name, &handle, Kind::Deploy, request.deploy, &who)?;
        let secrets = self.secrets(&name).newest()?;
        let what = What::Deploy {
            artifact: Artifact {
                path,
                size: request.size,
                sha256,
            },
            git: request.git.clone(),
            message: request.message.clone(),
        };
        let request_of = Request {
            deploy: request.deploy,
            who,
            manifest,
            secrets,
            what,
        };
        self.operate(&name, &handle, claim, request_of, Some(request.upload))
            .await
    }

    /// The last checks that all operations share, then hands over to the actor.
    async fn operate(
        &self,
        name: &AppName,
        handle: &Handle,
        claim: Claim,
        request: Request,
        upload: Option<Uuid>,
    ) -> Result<Events, EngineError> {
        self.require_secrets(name, &request)?;
        let hosts: Vec<_> = request.manifest.app.hosts().cloned().collect();
        self.inner
            .hosts
            .claim(name, &hosts)
            .map_err(|taken| EngineError::HostTaken {
                host: taken.host.to_string(),
                by: taken.by.to_string(),
            })?;
        tell(handle, |reply| Command::Operate {
            request,
            claim,
            upload,
            reply,
        })
        .await
    }

    /// A secret that `[env]`, the arguments or a service's URL refer to must be set before anything starts.
    fn require_secrets(&self, name: &AppName, request: &Request) -> Result<(), EngineError> {
        let values = self.secrets(name).read(request.secrets)?;
        let manifest = &request.manifest;
        let env = manifest
            .env
            .iter()
            .map(|(variable, template)| (variable.as_str(), template));
        let args = manifest
            .deploy
            .args
            .iter()
            .map(|template| ("deploy.args", template));
        let url = manifest
            .services
            .postgres
            .iter()
            .filter_map(|postgres| postgres.url.as_ref());
        let urls = url.map(|template| ("services.postgres.url", template));
        for (variable, template) in env.chain(args).chain(urls) {
            for wanted in template.variables() {
                if let vela_manifest::Variable::Secret(secret) = wanted
                    && !values.contains_key(secret)
                {
                    return Err(EngineError::UnsetSecret {
                        variable: variable.to_owned(),
                        secret: secret.clone(),
                        app: name.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    fn claim(
        &self,
        name: &AppName,
        handle: &Handle,
        kind: Kind,
        deploy: Uuid,
        who: &Who,
    ) -> Result<Claim, EngineError> {
        if self.inner.stopping.load(Ordering::SeqCst) {
            return Err(EngineError::Stopping);
        }
        let now = self.inner.stack.clock.now();
        handle
            .shared
            .claim(kind, deploy, who.clone(), now)
            .map_err(|holder| EngineError::Busy {
                app: name.to_string(),
                holder,
            })
    }

    /// The events of an operation that was asked for before.
    fn known(&self, name: &AppName, deploy: Uuid) -> Result<Option<Events>, EngineError> {
        if let Some(feed) = self.inner.common.feed(deploy) {
            return Ok(Some(feed.events(0)));
        }
        Ok(self.recorded(name, deploy)?.map(|record| replay(record, 0)))
    }

    fn recorded(
        &self,
        name: &AppName,
        deploy: Uuid,
    ) -> Result<Option<history::Record>, EngineError> {
        let records = history::read_all(&self.inner.stack.dirs.app(name).history())?;
        Ok(records
            .into_iter()
            .rev()
            .find(|record| record.deploy() == deploy))
    }

    fn secrets(&self, name: &AppName) -> crate::secrets::Secrets {
        crate::secrets::Secrets::new(self.inner.stack.dirs.app(name).secrets())
    }

    fn existing(&self, app: &str) -> Result<(AppName, Handle), EngineError> {
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

    fn apps_locked(&self) -> MutexGuard<'_, BTreeMap<AppName, Handle>> {
        self.inner
            .apps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn tell<T>(
    handle: &Handle,
    command: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Command,
) -> Result<T, EngineError> {
    let (reply, answer) = oneshot::channel();
    handle
        .commands
        .send(command(reply))
        .await
        .map_err(|_| EngineError::Stopping)?;
    answer.await.map_err(|_| EngineError::Stopping)?
}

/// What an app has on disk. An app whose store no operation has opened yet has nothing.
async fn list_releases(handle: &Handle) -> Result<Releases, EngineError> {
    match handle.shared.opened_store() {
        Some(store) => store.list().await.map_err(EngineError::Store),
        None => Ok(Releases::default()),
    }
}

async fn rollback_target(
    name: &AppName,
    handle: &Handle,
    to: Option<&str>,
) -> Result<ReleaseId, EngineError> {
    let app = || name.to_string();
    let releases = list_releases(handle).await?;
    let current = releases.current;
    if let Some(to) = to {
        let missing = || EngineError::NoSuchRelease {
            app: app(),
            release: to.to_owned(),
        };
        let id: ReleaseId = to.parse().map_err(|_| missing())?;
        if Some(id) == current {
            return Err(EngineError::AlreadyCurrent {
                app: app(),
                release: to.to_owned(),
            });
        }
        return releases
            .get(id)
            .map(|release| release.id)
            .ok_or_else(missing);
    }
    // Every release that is complete and not the one of an operation under way has served.
    let before = releases
        .all
        .iter()
        .rev()
        .map(|release| release.id)
        .find(|id| Some(*id) < current);
    before.ok_or_else(|| EngineError::NoPreviousRelease { app: app() })
}

fn replay(record: history::Record, from: u64) -> Events {
    let events = record.events.into_iter();
    stream::iter(events.skip_while(move |envelope| envelope.seq < from)).boxed()
}

fn who_is(who: Who, client: Option<String>) -> Who {
    Who {
        client: client.or(who.client),
        ..who
    }
}

fn parse_name(app: &str) -> Result<AppName, EngineError> {
    AppName::parse(app).map_err(|source| EngineError::AppName {
        name: app.to_owned(),
        source: Box::new(source),
    })
}

fn parse_manifest(name: &AppName, text: &str) -> Result<Arc<Manifest>, EngineError> {
    let manifest = Manifest::parse("Vela.toml", text).map_err(|source| EngineError::Manifest {
        source: Box::new(source),
    })?;
    if manifest.app.name != *name {
        let manifest = manifest.app.name.to_string();
        return Err(EngineError::OtherApp {
            app: name.to_string(),
            manifest,
        });
    }
    if let Some(unsupported) = manifest.not_yet_deployable().into_iter().next() {
        return Err(EngineError::NotYetDeployable {
            key: unsupported.key,
            why: unsupported.why,
        });
    }
    Ok(Arc::new(manifest))
}

/// Locks the data directory for this process, and leaves its pid for whoever is refused.
fn lock(stack: &Stack) -> Result<File, OpenError> {
    let (dirs, path) = (&stack.dirs, stack.dirs.lock());
    let at = |source| {
        OpenError::State(StateError::Io {
            path: path.clone(),
            source,
        })
    };
    durable::make_dir(dirs.data_dir(), 0o711).map_err(at)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let pid = std::fs::read_to_string(&path)
            .ok()
            .and_then(|pid| pid.trim().parse().ok());
        return Err(OpenError::Locked {
            data_dir: dirs.data_dir().to_owned(),
            pid,
        });
    }
    file.set_len(0).map_err(at)?;
    std::io::Write::write_all(&mut &file, format!("{}\n", std::process::id()).as_bytes())
        .map_err(at)?;
    Ok(file)
}
