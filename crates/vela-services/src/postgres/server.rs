use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;

use super::cluster::Cluster;
use super::installer::Installer;
use super::major::Major;
use super::programs::{Programs, Where};
use super::session::{Door, Session};
use crate::{Runner, ServerState, ServiceError};

/// How often a server may end before it is given up: within some three seconds, as they are started
/// again. A few times it may. What a predecessor that was killed left running holds its memory for a
/// moment, and its lock file counts until the system's first process has taken note of its end.
const CRASHES: u64 = 5;
/// How many lines of a server's log an error tells.
const LINES: usize = 20;

/// The servers that are run here, one for each version.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) programs: Where,
    pub(super) installer: Installer,
    pub(super) ready_within: Duration,
    dir: PathBuf,
    runner: Arc<dyn Runner>,
    /// Those that the runner was told about since this program started.
    kept: Mutex<BTreeSet<Major>>,
}

/// A server that was started, and by which its end is noticed.
#[derive(Debug)]
pub(super) struct Started {
    door: Door,
    restarts: u64,
}

impl Servers {
    pub(super) fn new(dir: PathBuf, runner: Arc<dyn Runner>) -> Self {
        Self {
            programs: Where::System,
            installer: Installer::apt(),
            ready_within: Duration::from_secs(120),
            dir,
            runner,
            kept: Mutex::default(),
        }
    }

    /// The version for an owner who has nothing yet and asks for none: the newest server that
    /// there is, else the newest programs, else what the distribution has.
    pub(super) async fn default_major(&self) -> Result<Major, ServiceError> {
        if let Some(newest) = Cluster::all(&self.dir)?.pop() {
            return Ok(newest.major);
        }
        Ok(self.find_or_install(None).await?.major)
    }

    /// A session in a server that accepts connections, whatever it takes to have one. The way for
    /// one that runs is short: to connect is all there is to it.
    pub(super) async fn session(
        &self,
        cluster: &Cluster,
        fresh: bool,
    ) -> Result<(Door, Session), ServiceError> {
        if self.is_kept(cluster)
            && let Some(door) = cluster.door()?
            && let Ok(session) = door.try_open().await?
        {
            return Ok((door, session));
        }
        self.find_or_install(Some(cluster.major)).await?;
        let started = self.start(cluster, fresh).await?;
        self.wait(cluster, started).await
    }

    /// Prepares a server whose programs are there, and has it run.
    pub(super) async fn start(
        &self,
        cluster: &Cluster,
        fresh: bool,
    ) -> Result<Started, ServiceError> {
        let failed = |source| ServiceError::Runner {
            server: cluster.name.clone(),
            source,
        };
        let Some(programs) = self.programs.find(Some(cluster.major)).await else {
            return Err(Installer::never().missing(Some(cluster.major)));
        };
        let user = self.runner.user(super::KIND, &self.dir).await;
        let user = user.map_err(failed)?;
        let spec = cluster.prepare(&programs, user.as_ref(), fresh).await?;
        let door = cluster.door()?.ok_or_else(|| ServiceError::Io {
            path: self.dir.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let restarts = self.state(cluster, 0).await.restarts;
        self.runner.keep(&spec).await.map_err(failed)?;
        Ok(Started { door, restarts })
    }

    /// Waits until a server lets the superuser in.
    pub(super) async fn wait(
        &self,
        cluster: &Cluster,
        started: Started,
    ) -> Result<(Door, Session), ServiceError> {
        let Started { door, restarts } = started;
        let deadline = Instant::now() + self.ready_within;
        // Each attempt that comes too early is a line in the server's log, so that a recovery of
        // minutes is asked about less and less often.
        let mut pause = Duration::from_millis(5);
        loop {
            let error = match door.try_open().await? {
                Ok(session) => {
                    self.note_version(cluster, &session).await?;
                    self.kept().insert(cluster.major);
                    return Ok((door, session));
                }
                Err(error) => error,
            };
            // A server that answers is one that starts or recovers, or has something to say.
            let is_starting = matches!(
                error.code(),
                None | Some(
                    &SqlState::CANNOT_CONNECT_NOW
                        | &SqlState::ADMIN_SHUTDOWN
                        | &SqlState::CRASH_SHUTDOWN
                        | &SqlState::TOO_MANY_CONNECTIONS
                )
            );
            if !is_starting {
                return Err(door.explain(error));
            }
            let state = self.state(cluster, 0).await;
            if state.restarts >= restarts + CRASHES {
                let ended = state.last_exit.unwrap_or_else(|| "it ended".into());
                return Err(self.not_ready(cluster, ended).await);
            }
            if Instant::now() >= deadline {
                let said = format!("not within {:?}: {error}", self.ready_within);
                return Err(self.not_ready(cluster, said).await);
            }
            sleep(pause).await;
            pause = pause.mul_f64(1.05).min(Duration::from_millis(250));
        }
    }

    pub(super) async fn stop(&self, cluster: &Cluster) -> Result<(), ServiceError> {
        self.kept().remove(&cluster.major);
        let stopped = self.runner.stop(&cluster.name).await;
        stopped.map_err(|source| ServiceError::Runner {
            server: cluster.name.clone(),
            source,
        })
    }

    pub(super) async fn state(&self, cluster: &Cluster, lines: usize) -> ServerState {
        self.runner.state(&cluster.name, lines).await
    }

    async fn find_or_install(&self, major: Option<Major>) -> Result<Programs, ServiceError> {
        if let Some(programs) = self.programs.find(major).await {
            return Ok(programs);
        }
        self.installer.install(major).await?;
        let found = self.programs.find(major).await;
        found.ok_or_else(|| self.installer.missing(major))
    }

    async fn note_version(&self, cluster: &Cluster, session: &Session) -> Result<(), ServiceError> {
        let row = session.client().query_one("SHOW server_version", &[]).await;
        let version: String = row.map_err(|error| session.explain(error))?.get(0);
        // `15.14 (Debian 15.14-0+deb12u1)`
        cluster.set_version(version.split(' ').next().unwrap_or_default())
    }

    async fn not_ready(&self, cluster: &Cluster, source: String) -> ServiceError {
        ServiceError::NotReady {
            server: cluster.name.clone(),
            log: self.state(cluster, LINES).await.log,
            source: source.into(),
        }
    }

    fn is_kept(&self, cluster: &Cluster) -> bool {
        self.kept().contains(&cluster.major)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeSet<Major>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
