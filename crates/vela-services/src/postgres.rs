use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::cluster::Cluster;
use self::programs::Where;
use self::record::{Place, Records, Standing};
use self::server::Servers;
use self::session::was_cut_off;
use crate::{
    Bindings, ExistingPostgres, OwnerName, OwnerStatus, Provisioner, Runner, ServiceError,
    ServiceSpec, ServiceStatus,
};

mod cluster;
mod config;
mod departure;
mod elsewhere;
mod extensions;
mod installer;
mod major;
mod names;
mod programs;
mod provision;
mod record;
mod removal;
mod roles;
mod secret;
mod server;
mod session;
mod tuning;

pub use self::installer::Installer;

const KIND: &str = "postgres";
/// How often an owner is provided for: the server may crash in between.
const ATTEMPTS: u32 = 3;

/// Databases in a Postgres server that is run here, or in one that somebody else runs.
///
/// Every database of an owner has a role of its own name that owns it, may log in with a generated
/// password, and has no other right in the server. Nobody else may connect to it. What the spec
/// says decides where it is:
///
/// - Without a `url`: in a server of the asked-for major version that is run by the [`Runner`], as
///   a user of its own, on a Unix socket that only this program reaches and a port of 127.0.0.1.
///   Without a `version` it is the one where the owner's databases are, else the newest that
///   there is. Programs that are missing are installed by the [`Installer`].
/// - With a `url` and `databases` or `extensions`: in the server of that url, whose user makes
///   them; it must be one who may create roles and databases.
/// - With a `url` alone: what [`ExistingPostgres`] does.
///
/// The program gets `DATABASE_URL` and `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE` of
/// the first database, and `DATABASE_URL_<DB>` of each. Passwords stay the same for ever.
///
/// `ensure` puts right what was changed since: a role or a database that is gone, a password, an
/// owner, a right too many or too few, an extension. It never drops anything, and never takes what
/// it did not make. `remove` without purge locks the roles and keeps the data.
///
/// # Crashes
///
/// What the server is told is first written to `owners/<owner>.toml` (0600, synced), and the
/// server's data gets its name only when it is complete. After a crash anywhere the next call goes
/// on from there.
#[derive(Debug)]
pub struct Postgres {
    servers: Servers,
    records: Records,
    dir: PathBuf,
    /// Held by the one call that changes something.
    turn: Mutex<()>,
}

impl Postgres {
    /// Keeps everything in `dir`, and runs servers by `runner`. A server that has a user of its
    /// own must be able to pass through the directories above `dir`.
    #[must_use]
    pub fn new(dir: PathBuf, runner: Arc<dyn Runner>) -> Self {
        Self {
            servers: Servers::new(dir.clone(), runner),
            records: Records::new(dir.join("owners")),
            dir,
            turn: Mutex::default(),
        }
    }

    /// Looks for the programs of version 15 in `15/bin` of each of these directories, and nowhere
    /// else. Without this it is `/usr/lib/postgresql`, and `PATH` if there is no version in it.
    #[must_use]
    pub fn programs(mut self, dirs: Vec<PathBuf>) -> Self {
        self.servers.programs = Where::Below(dirs);
        self
    }

    /// Installs programs that are missing in another way than [`Installer::apt`].
    #[must_use]
    pub fn installer(mut self, installer: Installer) -> Self {
        self.servers.installer = installer;
        self
    }

    /// Gives a server that was started this time to accept connections, rather than two minutes.
    /// One that crashes again and again is given up earlier.
    #[must_use]
    pub fn ready_within(mut self, time: Duration) -> Self {
        self.servers.ready_within = time;
        self
    }

    /// Stops the server of a version in which nobody has anything active.
    async fn stop_if_unused(&self, cluster: &Cluster) -> Result<(), ServiceError> {
        let here = Place::Here(cluster.major);
        let is_used = self.records.all()?.values().any(|record| match record {
            Ok(record) => record.place() == here && record.standing == Standing::Active,
            // Whose it is can't be known.
            Err(_) => true,
        });
        if is_used {
            return Ok(());
        }
        self.servers.stop(cluster).await
    }
}

#[async_trait]
impl Provisioner for Postgres {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn ensure(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Bindings, ServiceError> {
        match &spec.url {
            Some(_) if is_all_there(spec) => ExistingPostgres::new().ensure(owner, spec).await,
            Some(url) => {
                let _turn = self.turn.lock().await;
                self.ensure_elsewhere(owner, spec, url).await
            }
            None => {
                let _turn = self.turn.lock().await;
                let mut attempt = 1;
                loop {
                    match self.ensure_here(owner, spec).await {
                        Err(error) if attempt < ATTEMPTS && was_cut_off(&error) => {
                            tracing::warn!(%owner, %error, "the server went away: once more");
                            attempt += 1;
                        }
                        ensured => return ensured,
                    }
                }
            }
        }
    }

    async fn bindings(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        match is_all_there(spec) {
            true => ExistingPostgres::new().bindings(owner, spec).await,
            false => self.given(owner, spec),
        }
    }

    async fn resume(&self) -> Result<(), ServiceError> {
        let _turn = self.turn.lock().await;
        let mut failures = Vec::new();
        let mut majors = Vec::new();
        for record in self.records.all()?.into_values() {
            match record {
                Ok(record) if record.standing == Standing::Active => {
                    if let Place::Here(major) = record.place() {
                        majors.push(major);
                    }
                }
                Ok(_) => {}
                Err(damaged) => failures.push(damaged),
            }
        }
        majors.sort_unstable();
        majors.dedup();
        // All are started before the first is waited for.
        let mut started = Vec::new();
        for major in majors {
            let cluster = Cluster::new(&self.dir, major);
            match self.servers.start(&cluster, false).await {
                Ok(start) => started.push((cluster, start)),
                Err(error) => failures.push(error),
            }
        }
        for (cluster, start) in started {
            if let Err(error) = self.servers.wait(&cluster, start).await {
                failures.push(error);
            }
        }
        // One that was made for an owner who never got anything.
        for cluster in Cluster::all(&self.dir)? {
            if let Err(error) = self.stop_if_unused(&cluster).await {
                failures.push(error);
            }
        }
        for failure in failures.iter().skip(1) {
            tracing::error!(error = failure as &dyn std::error::Error, "postgres");
        }
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    async fn remove(&self, owner: &OwnerName, purge: bool) -> Result<(), ServiceError> {
        let _turn = self.turn.lock().await;
        self.take_away(owner, purge).await
    }

    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError> {
        let records = self.records.all()?;
        let mut all = Vec::new();
        for cluster in Cluster::all(&self.dir)? {
            let Some(server) = cluster.record()? else {
                continue;
            };
            let state = self.servers.state(&cluster, 0).await;
            let owners = records.iter().filter_map(|(owner, record)| {
                // A damaged one is told by what concerns its owner.
                let record = record.as_ref().ok()?;
                (record.place() == Place::Here(cluster.major)).then(|| OwnerStatus {
                    owner: owner.clone(),
                    holds: record.databases.iter().map(|d| d.name.clone()).collect(),
                    active: record.standing == Standing::Active,
                })
            });
            all.push(ServiceStatus {
                server: cluster.name.clone(),
                version: server.version.or_else(|| Some(cluster.major.to_string())),
                pid: state.pid,
                restarts: state.restarts,
                address: format!("127.0.0.1:{}", server.port),
                owners: owners.collect(),
            });
        }
        Ok(all)
    }
}

/// Whether the spec names a database that exists, and nothing has to be made.
fn is_all_there(spec: &ServiceSpec) -> bool {
    spec.url.is_some() && spec.databases.is_empty() && spec.extensions.is_empty()
}
