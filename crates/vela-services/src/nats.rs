use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use self::client::LoginError;
use self::owner::{Owner, Owners};
use self::program::Programs;
use self::server::Server;
use self::settings::Settings;
use self::subjects::subjects;
use crate::{
    Bindings, Download, OwnerName, OwnerStatus, Provisioner, Runner, ServerName, ServiceError,
    ServiceSpec, ServiceStatus,
};

mod client;
mod config;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod machine;
mod monitor;
mod owner;
mod program;
mod record;
mod server;
mod settings;
mod subjects;
mod version;

const KIND: &str = "nats";
/// How often an owner is let in: the server may crash in between.
const ATTEMPTS: u32 = 3;
const PROGRAM: &str = "nats-server";

/// One NATS server for all owners, run by a [`Runner`].
///
/// Each owner has an account and a user of its own. It may publish and subscribe to the subjects
/// `<owner>` and `<owner>.>`, to the same with `_` for `-`, and to the spec's `subjects`; the
/// server refuses everything else, and messages of other accounts can't be seen whatever the
/// subject. With `jetstream` in the spec the account keeps messages on disk, within its limits.
/// The owner gets `NATS_URL`, `NATS_USER` and `NATS_PASSWORD`, the same each time.
///
/// The program is the machine's nats-server if it is of the same major version as the spec's
/// `version` and not older (at least 2.9), else it is [downloaded](Download). An owner that asks for
/// more than the running server is makes it start again as a newer one, with the others in it.
///
/// In its directory, which the server's user has to be able to reach:
///
/// - `server.toml` (0600): the ports, which stay the same for good
/// - `owners/<owner>.toml` (0600): passwords and limits
/// - `nats.conf` (0640): made of these, with hashes of the passwords
/// - `store/`: what JetStream keeps
/// - `bin/`: what was downloaded
///
/// When something changes the server reads its configuration again without being started again,
/// and the other owners' connections stay. An owner that was removed loses its user at once and
/// keeps what JetStream has of it, until it is purged. A message that JetStream has acknowledged
/// survives a crash of the server; a crash of the machine may take what the server had not synced
/// yet, which it does every two minutes.
///
/// Every method can be interrupted at any point, by a dropped future or by `kill -9`: the next
/// one goes on from what is on disk.
#[derive(Debug)]
pub struct Nats {
    dir: PathBuf,
    runner: Arc<dyn Runner>,
    owners: Owners,
    /// One change at a time: the configuration is made of all owners.
    server: Mutex<Server>,
}

impl Nats {
    /// Keeps everything in `dir`, which is made when missing.
    #[must_use]
    pub fn new(dir: PathBuf, runner: Arc<dyn Runner>) -> Self {
        let programs = Programs {
            dirs: Programs::usual_dirs(),
            download: Some(Download::default()),
            bin: dir.join("bin"),
        };
        Self {
            owners: Owners::new(dir.join("owners")),
            server: Mutex::new(Server::new(&dir, Arc::clone(&runner), programs)),
            runner,
            dir,
        }
    }

    /// Looks for `nats-server` in these directories, in place of those in `PATH` and the usual
    /// ones.
    #[must_use]
    pub fn programs(mut self, dirs: Vec<PathBuf>) -> Self {
        self.server.get_mut().programs.dirs = dirs;
        self
    }

    /// Downloads this where the machine has no program that fits; nothing if there is `None`.
    #[must_use]
    pub fn download(mut self, download: impl Into<Option<Download>>) -> Self {
        self.server.get_mut().programs.download = download.into();
        self
    }

    /// How long the server may take until it is ready; thirty seconds unless set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.server.get_mut().patience = patience;
        self
    }

    /// Deletes what is left of an owner that is marked for it. Its user is gone already, or goes
    /// now.
    async fn purge(&self, server: &mut Server, name: &OwnerName) -> Result<(), ServiceError> {
        if let Some(mut settings) = server.settings()? {
            // First without JetStream, by which the server lets go of its files: an account that
            // is just left out keeps them open, and writes to them.
            let is_running = server.settle(&mut settings, &self.owners.list()?).await?;
            if is_running {
                server.forgotten(&settings, name).await?;
            }
            server.delete_store(name)?;
        }
        self.owners.delete(name)?;
        if let Some(mut settings) = server.settings()? {
            server.settle(&mut settings, &self.owners.list()?).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Provisioner for Nats {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn ensure(&self, name: &OwnerName, spec: &ServiceSpec) -> Result<Bindings, ServiceError> {
        owner::check(spec)?;
        let mut server = self.server.lock().await;
        if self.owners.load(name)?.is_some_and(|owner| owner.purging) {
            self.purge(&mut server, name).await?;
        }
        let mut settings = match server.settings()? {
            Some(settings) => settings,
            None => server.set_up()?,
        };
        let mut all = self.owners.list()?;
        let (mut owner, is_known) = match all.iter().position(|(other, _)| other == name) {
            Some(at) => (all.remove(at).1, true),
            None => (Owner::new(), false),
        };
        let is_new = owner.ask(spec, settings.default_limits()) || !is_known;
        if is_new {
            // What can't be had is refused before anything is written: it would be in the way of
            // the other owners.
            if settings.make_room(&self.dir, name, &owner, &all)? {
                server.store_settings(&settings)?;
            }
            let needed = server::version_for(&all).max(owner.version());
            server.program(&mut settings, needed).await?;
            self.owners.store(name, &owner)?;
        }
        let password = SecretString::from(owner.password.expose_secret());
        all.push((name.clone(), owner));
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut attempt = 1;
        loop {
            server.settle_first(&mut settings, &all).await?;
            match client::login(settings.port, name.as_str(), &password).await {
                Ok(_) => return Ok(bindings(name, &password, settings.port)),
                // It was well just now, and is about to be started again.
                Err(LoginError::Failed(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(LoginError::Refused(said)) => {
                    return Err(ServiceError::AuthRefused {
                        kind: KIND,
                        address: address(settings.port),
                        user: name.to_string(),
                        source: said.into(),
                    });
                }
                Err(LoginError::Failed(source)) => {
                    return Err(ServiceError::Unreachable {
                        kind: KIND,
                        address: address(settings.port),
                        source: source.into(),
                    });
                }
            }
        }
    }

    async fn bindings(
        &self,
        name: &OwnerName,
        _: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        // Not locked, as for the status.
        let owner = self.owners.load(name)?.filter(|owner| owner.active);
        let settings = Settings::load(&server::settings_file(&self.dir))?;
        Ok(match (owner, settings) {
            (Some(owner), Some(settings)) if settings.is_given => {
                Some(bindings(name, &owner.password, settings.port))
            }
            _ => None,
        })
    }

    async fn resume(&self) -> Result<(), ServiceError> {
        let mut server = self.server.lock().await;
        let Some(mut settings) = server.settings()? else {
            return Ok(());
        };
        server.settle(&mut settings, &self.owners.list()?).await?;
        Ok(())
    }

    async fn remove(&self, name: &OwnerName, purge: bool) -> Result<(), ServiceError> {
        let mut server = self.server.lock().await;
        let Some(mut owner) = self.owners.load(name)? else {
            return Ok(());
        };
        if owner.active || (purge && !owner.purging) {
            owner.active = false;
            owner.purging |= purge;
            self.owners.store(name, &owner)?;
        }
        if purge || owner.purging {
            return self.purge(&mut server, name).await;
        }
        if let Some(mut settings) = server.settings()? {
            server.settle(&mut settings, &self.owners.list()?).await?;
        }
        Ok(())
    }

    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError> {
        // Not locked: a download or a slow start is when one looks.
        let Some(settings) = Settings::load(&server::settings_file(&self.dir))? else {
            return Ok(Vec::new());
        };
        let owners = self.owners.list()?;
        let state = self.runner.state(&server_name(), 0).await;
        Ok(vec![ServiceStatus {
            server: server_name(),
            version: settings.version().map(|version| version.to_string()),
            pid: state.pid,
            restarts: state.restarts,
            address: address(settings.port),
            owners: owners
                .into_iter()
                .map(|(name, owner)| OwnerStatus {
                    holds: subjects(&name, &owner.subjects),
                    active: owner.active,
                    owner: name,
                })
                .collect(),
        }])
    }
}

fn server_name() -> ServerName {
    ServerName::parse(KIND).expect("four letters are a name")
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn bindings(name: &OwnerName, password: &SecretString, port: u16) -> Bindings {
    let password = password.expose_secret();
    let url = format!("nats://{name}:{password}@{}", address(port));
    Bindings::from([
        ("NATS_URL".to_owned(), SecretString::from(url)),
        ("NATS_USER".to_owned(), SecretString::from(name.as_str())),
        ("NATS_PASSWORD".to_owned(), SecretString::from(password)),
    ])
}
