use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use secrecy::SecretString;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::UnboundedSender;
use vela_health::Unhealthy;
use vela_manifest::{AppName, Listen, Manifest, Template};
use vela_protocol::{Attempt, Event};
use vela_proxy::{Drained, ErrorPages, Park, Replaced, RouteError, RouteSpec};
use vela_release::Release;
use vela_supervisor::users::User;
use vela_supervisor::{
    Exit, ExitStatus, Instance, InstanceEvent, InstanceId, InstanceSpec, LogSpec, PortLease,
    PortOwner, Stop, Supervisor, listening_on,
};

use crate::beam;
use crate::dirs::AppDirs;
use crate::env::{EnvSources, UnsetSecret, render, resolve_env};
use crate::owner::Owner;
use crate::routing::{self, AppRoute};
use crate::services;
use crate::sockets;
use crate::stack::Stack;
use crate::step_error::StepError;

/// How many lines of an app's log an error quotes.
const QUOTED_LINES: usize = 10;
/// How long a probe of an adopted instance waits for its services.
const SERVICES_PATIENCE: Duration = Duration::from_secs(1);
/// How many ports an instance is tried on when strangers listen on them.
const PORT_TRIES: usize = 4;

/// Everything that is needed to start instances of one release: a deploy, a restart, a rollback, the restore at the
/// daemon's start and the restart after a crash all start them with this.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) stack: Arc<Stack>,
    pub(crate) app: AppName,
    pub(crate) dirs: AppDirs,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) release: Release,
    /// The history id of the operation that made it.
    pub(crate) operation: String,
    pub(crate) secrets: BTreeMap<String, SecretString>,
    /// What the app's services gave, once they were asked.
    pub(crate) services: OnceCell<BTreeMap<String, SecretString>>,
    pub(crate) user: Option<User>,
    /// Where the app is in the router's table.
    pub(crate) route: Arc<AppRoute>,
    /// The release's own pages, once they were read.
    pub(crate) error_pages: OnceLock<Option<Arc<ErrorPages>>>,
}

/// A started instance and the port that is reserved for it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) instance: Instance,
    pub(crate) lease: PortLease,
}

/// What allows an instance to be stopped: proof that no request needs it.
#[derive(Debug)]
pub(crate) enum StopPermit {
    /// Its route was drained.
    Drained(Drained),
    /// No route ever pointed at it.
    NeverRouted,
    /// The proxy that routed to it is gone with the daemon of that time.
    Recovered,
}

impl Launch {
    /// The whole environment of an instance or task.
    pub(crate) async fn env(
        self: &Arc<Self>,
        instance: &InstanceId,
        port: u16,
    ) -> Result<BTreeMap<String, SecretString>, StepError> {
        let services = self.services().await?;
        Ok(self.with_sources(instance.as_str(), port, services, resolve_env)?)
    }

    /// The environment of a probe: what runs does not wait for a service that is away. The variables of one that does
    /// not come soon are missing then.
    pub(crate) async fn probe_env(
        self: &Arc<Self>,
        instance: &InstanceId,
        port: u16,
    ) -> Result<BTreeMap<String, SecretString>, StepError> {
        let none = BTreeMap::new();
        let services = match tokio::time::timeout(SERVICES_PATIENCE, self.services()).await {
            Ok(Ok(services)) => services,
            Ok(Err(_)) | Err(_) => &none,
        };
        Ok(self.with_sources(instance.as_str(), port, services, resolve_env)?)
    }

    /// The services' variables: asked for once, before the first start, so that an adopted instance serves though
    /// its database is away.
    pub(crate) async fn services(&self) -> Result<&BTreeMap<String, SecretString>, StepError> {
        self.services
            .get_or_try_init(|| services::provision(self))
            .await
    }

    /// Asks for the services' variables beside an instance that was adopted and needs them only when it is started
    /// again: that must not have to wait for a server which crashed together with the instance.
    pub(crate) fn ask_services_aside(self: &Arc<Self>) {
        let launch = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = launch.services().await {
                tracing::warn!(app = %launch.app, error = %error.report(), "the app's services could not be had; it goes on");
            }
        });
    }

    /// Fills a template of the manifest that needs no instance.
    pub(crate) fn render(&self, name: &str, template: &Template) -> Result<String, UnsetSecret> {
        let none = BTreeMap::new();
        self.with_sources("", 0, &none, |sources| render(name, template, sources))
    }

    /// Starts one instance on the port of `lease`.
    pub(crate) async fn start(self: &Arc<Self>, lease: PortLease) -> Result<Running, StepError> {
        let id = InstanceId::random();
        if let Some(path) = self.socket(lease.port()) {
            sockets::remove(&self.dirs, lease.port())
                .map_err(|source| StepError::OldSocket { path, source })?;
        }
        let program =
            vela_release::entrypoint(&self.release.path, self.manifest.deploy.binary.as_path())
                .map_err(StepError::Entrypoint)?;
        let args = self.with_sources(
            id.as_str(),
            lease.port(),
            self.services().await?,
            |sources| {
                let templates = self.manifest.deploy.args.iter();
                let args = templates.map(|template| render("args", template, sources));
                let command = beam::command(self.manifest.deploy.kind);
                command
                    .map(Ok)
                    .into_iter()
                    .chain(args)
                    .collect::<Result<Vec<_>, _>>()
            },
        )?;
        let owner = Owner::Release {
            app: self.app.to_string(),
            release: self.release.id.to_string(),
            operation: self.operation.clone(),
        };
        let spec = InstanceSpec {
            labels: owner.labels(),
            args,
            cwd: self.release.path.clone(),
            env: self.env(&id, lease.port()).await?,
            user: self.user.clone(),
            port: Some(lease.port()),
            log: LogSpec {
                tag: Some(id.to_string()),
                ..LogSpec::new(self.log_path())
            },
            spares: beam::spares(self.manifest.deploy.kind),
            ..InstanceSpec::new(id, program)
        };
        let instance = self
            .stack
            .supervisor
            .start(spec)
            .await
            .map_err(StepError::Start)?;
        Ok(Running { instance, lease })
    }

    /// Waits until the instance is healthy and it is really the instance that listens on its port; where a stranger
    /// does, starts it again on another port, in place.
    ///
    /// The instance is not stopped on an error, so that the caller's undo does it in one place.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        running: &mut Running,
        events: Option<&UnboundedSender<Event>>,
    ) -> Result<(), StepError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let result = self.wait_healthy(running, events).await;
            let PortOwner::Stranger { pid } = self.port_owner(running).await else {
                return result;
            };
            let (port, taken) = (running.lease.port(), self.place(running));
            tracing::warn!(app = %self.app, port, ?pid, "a stranger listens on the port of an instance");
            if attempt == PORT_TRIES {
                return Err(StepError::PortTaken { port, pid });
            }
            let lease = self.stack.ports.reserve().map_err(StepError::Port)?;
            self.stop([&*running], StopPermit::NeverRouted).await?;
            *running = self.start(lease).await?;
            if let Some(events) = events {
                let message = format!("another process listens on {taken}: trying another port");
                emit(events, Event::Warned { message });
                emit(events, running.started());
            }
        }
    }

    async fn wait_healthy(
        self: &Arc<Self>,
        running: &Running,
        events: Option<&UnboundedSender<Event>>,
    ) -> Result<(), StepError> {
        let health = &self.manifest.deploy.health;
        let probe = crate::probe::probe(health, self, running.lease.port())?;
        let exited = self.exit_of(&running.instance.id).await;
        let mut last_said: Option<String> = None;
        let on_attempt = |attempt: vela_health::Attempt<'_>| {
            let failure = attempt
                .result
                .err()
                .map(|error| vela_protocol::Report::of(error).to_string());
            // The quick attempts of the first second would be hundreds of lines that say the same.
            let told = attempt.number.is_some() || failure.is_none() || failure != last_said;
            if let Some(events) = events.filter(|_| told) {
                last_said.clone_from(&failure);
                let attempt = Attempt {
                    number: attempt.number,
                    of: attempt.of,
                };
                emit(
                    events,
                    Event::HealthChecked {
                        instance: running.instance.id.to_string(),
                        attempt,
                        failure,
                    },
                );
            }
        };
        let target = self.target(running);
        match crate::probe::policy(health.timing())
            .wait(&*probe, &target, exited, on_attempt)
            .await
        {
            Ok(_) => Ok(()),
            Err(Unhealthy::Exited(exit)) => Err(StepError::Exited {
                status: exit.status,
                output: self.last_output(&running.instance.id),
            }),
            Err(Unhealthy::GaveUp {
                attempts,
                after,
                last,
            }) => {
                let output = self.last_output(&running.instance.id);
                let listening = listening_on(&running.instance).await.unwrap_or_default();
                Err(StepError::Unhealthy {
                    attempts,
                    after,
                    last: Box::new(last),
                    port: running.lease.port(),
                    listening,
                    output,
                })
            }
        }
    }

    /// Resolves when the instance has ended, also when it ended before this call.
    pub(crate) async fn exit_of(
        &self,
        id: &InstanceId,
    ) -> impl Future<Output = Exit> + Send + use<> {
        let mut events = self.stack.supervisor.watch();
        // Asked after the watch began, so that no end falls between the two.
        let alive = self
            .stack
            .supervisor
            .list()
            .await
            .is_ok_and(|all| all.iter().any(|one| one.id == *id));
        let id = id.clone();
        let supervisor = Arc::clone(&self.stack.supervisor);
        async move {
            if alive {
                return next_exit(&mut events, |exited| *exited == id).await.1;
            }
            // Stopping what has ended only tells how it did.
            let ended = supervisor.stop(&id, &Stop::now()).await;
            ended.unwrap_or_else(|_| Exit::now(ExitStatus::Unknown))
        }
    }

    /// Stops instances that `permit` proves to be without requests, all at a time.
    pub(crate) async fn stop(
        &self,
        running: impl IntoIterator<Item = &Running>,
        permit: StopPermit,
    ) -> Result<Vec<(InstanceId, Exit)>, StepError> {
        let running: Vec<_> = running.into_iter().collect();
        let stopped = stop(
            &*self.stack.supervisor,
            running.iter().map(|one| one.instance.id.clone()),
            how_to_stop(&self.manifest),
            permit,
        )
        .await?;
        running.into_iter().for_each(|one| self.forget(one));
        Ok(stopped)
    }

    /// Removes what only this instance used: it has ended. Its port is still its own.
    pub(crate) fn forget(&self, ended: &Running) {
        self.dirs.forget_tmp_of(&ended.instance.id);
        if self.manifest.app.listen == Listen::Unix {
            sockets::forget(&self.dirs, ended.lease.port());
        }
    }

    /// Points the app's route at these instances.
    pub(crate) async fn serve(&self, running: &[Running]) -> Result<Option<Replaced>, RouteError> {
        let upstreams = running.iter().map(|one| self.upstream(one)).collect();
        self.route.apply(self.spec(), upstreams).await
    }

    /// Holds the app's requests until it is served again.
    pub(crate) async fn park(&self, park: &dyn Park) -> Result<Option<Replaced>, RouteError> {
        self.route.park(park, self.spec()).await
    }

    /// Reads what the route needs of the release, while it can still be refused.
    pub(crate) fn read_error_pages(&self) -> Result<(), StepError> {
        if self.error_pages.get().is_none() {
            let pages = routing::error_pages(&self.release.path, &self.manifest)?;
            self.error_pages.get_or_init(|| pages);
        }
        Ok(())
    }

    fn spec(&self) -> RouteSpec {
        let read = || routing::error_pages_if_any(&self.app, &self.release.path, &self.manifest);
        let pages = self.error_pages.get_or_init(read).clone();
        routing::spec(&self.app, &self.manifest, pages)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dirs.log()
    }

    /// The last lines that an instance wrote.
    pub(crate) fn last_output(&self, id: &InstanceId) -> Vec<String> {
        let lines = vela_supervisor::logs::tail(&self.log_path(), 400).unwrap_or_default();
        let own: Vec<_> = lines
            .into_iter()
            .filter(|line| line.tag.as_deref() == Some(id.as_str()))
            .collect();
        own[own.len().saturating_sub(QUOTED_LINES)..]
            .iter()
            .map(|line| line.text.clone())
            .collect()
    }

    fn with_sources<T>(
        &self,
        instance: &str,
        port: u16,
        services: &BTreeMap<String, SecretString>,
        use_them: impl FnOnce(&EnvSources<'_>) -> T,
    ) -> T {
        let (release, data_dir) = (self.release.id.to_string(), self.dirs.data());
        let socket = self.socket(port);
        let has_home = self.user.is_none() && self.stack.inherited.contains_key("HOME");
        let kind = self.manifest.deploy.kind;
        let defaults = beam::defaults(kind, &self.app, &self.dirs, instance, port);
        use_them(&EnvSources {
            inherited: &self.stack.inherited,
            app: &self.app,
            release: &release,
            instance,
            port,
            socket: socket.as_deref(),
            data_dir: &data_dir,
            home: (!has_home).then_some(data_dir.as_path()),
            manifest: &self.manifest.env,
            secrets: &self.secrets,
            services,
            defaults: &defaults,
        })
    }
}

impl Running {
    /// The event that tells of it.
    pub(crate) fn started(&self) -> Event {
        Event::InstanceStarted {
            instance: self.instance.id.to_string(),
            pid: self.instance.pid,
            port: Some(self.lease.port()),
        }
    }
}

/// Stops instances, all at a time; the permit says why that is right.
pub(crate) async fn stop(
    supervisor: &dyn Supervisor,
    ids: impl IntoIterator<Item = InstanceId>,
    how: Stop,
    permit: StopPermit,
) -> Result<Vec<(InstanceId, Exit)>, StepError> {
    tracing::debug!(?permit, "stopping instances");
    let stops = ids.into_iter().map(|id| async move {
        let exit = supervisor.stop(&id, &how).await.map_err(StepError::Stop)?;
        Ok((id, exit))
    });
    try_join_all(stops).await
}

/// How a manifest wants its instances stopped.
pub(crate) fn how_to_stop(manifest: &Manifest) -> Stop {
    // Both crates name the same signals; a name that only one knows would be a TERM.
    let signal = manifest
        .deploy
        .stop_signal
        .as_str()
        .parse()
        .unwrap_or(vela_supervisor::Signal::Term);
    Stop {
        signal,
        grace: manifest.deploy.stop_timeout,
    }
}

/// Waits for the end of an instance that `wanted` accepts. Never resolves when the supervisor is gone: there is
/// nobody left who could tell. Cancel safe.
pub(crate) async fn next_exit(
    events: &mut BoxStream<'static, InstanceEvent>,
    wanted: impl Fn(&InstanceId) -> bool,
) -> (InstanceId, Exit) {
    while let Some(event) = events.next().await {
        if let InstanceEvent::Exited { id, exit, .. } = event
            && wanted(&id)
        {
            return (id, exit);
        }
    }
    std::future::pending().await
}

/// Sends an event to whoever writes the history; after the operation's end nobody does, and nobody needs to.
pub(crate) fn emit(events: &UnboundedSender<Event>, event: Event) {
    if events.send(event).is_err() {
        tracing::debug!("an event came after the end of its operation");
    }
}
