use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{self, LoginError};
use super::config::Config;
use super::monitor::Monitor;
use super::owner::Owner;
use super::program::{self, Programs};
use super::server_name;
use super::settings::Settings;
use super::version::Version;
use crate::{OwnerName, Runner, ServerSignal, ServerSpec, ServerUser, ServiceError, durable};

/// How long the server may take to read its configuration again; it is told again then.
const RELOAD: Duration = Duration::from_secs(1);
/// How often it is told, before it is started again: there is a change that it can't make while
/// it runs.
const RELOADS: u32 = 3;
/// A server that ends so often while it is waited for will not get ready.
const CRASHES: u64 = 3;

/// The server, as it is made to be what is on disk.
#[derive(Debug)]
pub(super) struct Server {
    dir: PathBuf,
    runner: Arc<dyn Runner>,
    pub(super) programs: Programs,
    pub(super) patience: Duration,
    /// Whether the runner was told in this life of the program.
    is_kept: bool,
}

/// What a look at the server shows.
enum Look {
    /// It is well, has this version, and the configuration is in force.
    Ready(Option<Version>),
    /// It is well, and has another configuration.
    Outdated,
    /// There is no server that is well.
    NotReady(Box<dyn Error + Send + Sync>),
}

impl Server {
    pub(super) fn new(dir: &Path, runner: Arc<dyn Runner>, programs: Programs) -> Self {
        Self {
            dir: dir.to_owned(),
            runner,
            programs,
            patience: Duration::from_secs(30),
            is_kept: false,
        }
    }

    pub(super) fn settings(&self) -> Result<Option<Settings>, ServiceError> {
        Settings::load(&settings_file(&self.dir))
    }

    pub(super) fn store_settings(&self, settings: &Settings) -> Result<(), ServiceError> {
        settings.store(&settings_file(&self.dir))
    }

    /// Makes the directories and chooses the settings of a server that there is not yet.
    pub(super) fn set_up(&self) -> Result<Settings, ServiceError> {
        if self.dir.to_str().is_none() {
            // It could not stand in the configuration.
            let source = std::io::Error::new(ErrorKind::InvalidInput, "the path is not UTF-8");
            return Err(durable::failed(&self.dir)(source));
        }
        // Passed by the server's user, and read by nobody else.
        durable::directory(&self.dir, 0o711, None)?;
        durable::directory(&self.dir.join("owners"), 0o700, None)?;
        let settings = Settings::new(&self.dir)?;
        self.store_settings(&settings)?;
        Ok(settings)
    }

    /// Makes sure that the settings name a program of at least this version.
    pub(super) async fn program(
        &self,
        settings: &mut Settings,
        needed: Version,
    ) -> Result<(), ServiceError> {
        let program = self.programs.find(&settings.program, needed).await?;
        if settings.run(program.path, program.version) {
            self.store_settings(settings)?;
        }
        Ok(())
    }

    /// Makes the server be what `owners` say: stopped if none is active, else running, well, and
    /// with exactly their configuration. Says whether it runs.
    pub(super) async fn settle(
        &mut self,
        settings: &mut Settings,
        owners: &[(OwnerName, Owner)],
    ) -> Result<bool, ServiceError> {
        if !owners.iter().any(|(_, owner)| owner.active) {
            self.stop().await?;
            return Ok(false);
        }
        let needed = version_for(owners);
        let config = Config::new(settings, owners, &self.store());
        let is_written = durable::read(&self.config())?.as_deref() == Some(&config.text);
        if self.is_kept
            && is_written
            && let Look::Ready(Some(version)) = self.look(settings, &config).await
            && version.satisfies(needed)
        {
            return Ok(true);
        }

        let user = self
            .runner
            .user(super::KIND, &self.dir)
            .await
            .map_err(runner_failed)?;
        durable::directory(&self.dir, 0o711, None)?;
        durable::directory(&self.store(), 0o700, user.as_ref())?;
        self.program(settings, needed).await?;
        if !is_written {
            self.write(&settings.program, &config, user.as_ref())
                .await?;
        }
        let spec = self.spec(settings, user);
        self.keep(&spec).await?;
        self.become_ready(settings, &config, &spec, needed).await?;
        Ok(true)
    }

    /// The same, for a server that may be a new one, whose ports somebody may have taken after they
    /// were chosen: it takes others, until somebody was given them.
    pub(super) async fn settle_first(
        &mut self,
        settings: &mut Settings,
        owners: &[(OwnerName, Owner)],
    ) -> Result<(), ServiceError> {
        while let Err(error) = self.settle(settings, owners).await {
            if settings.is_given || !matches!(error, ServiceError::NotReady { .. }) {
                return Err(error);
            }
            self.stop().await?;
            if !settings.move_away(&self.dir)? {
                return Err(error);
            }
            self.store_settings(settings)?;
        }
        if !settings.is_given {
            settings.is_given = true;
            self.store_settings(settings)?;
        }
        Ok(())
    }

    /// Waits until JetStream has nothing of the account in use any more. It is disabled already.
    pub(super) async fn forgotten(
        &self,
        settings: &Settings,
        name: &OwnerName,
    ) -> Result<(), ServiceError> {
        let deadline = Instant::now() + self.patience;
        loop {
            match Monitor::new(settings).has_jetstream(name.as_str()).await {
                Ok(false) => return Ok(()),
                Ok(true) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
                Ok(true) => return Err(self.not_ready("it does not let go of the data").await),
                Err(error) => return Err(self.not_ready(error).await),
            }
        }
    }

    /// Deletes what JetStream has of an account that the server does not use.
    pub(super) fn delete_store(&self, name: &OwnerName) -> Result<(), ServiceError> {
        let accounts = self.store().join("jetstream");
        // A link, which only the server's user could have made, leads elsewhere.
        match fs::symlink_metadata(&accounts) {
            Ok(found) if found.is_dir() => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(durable::failed(&accounts)(error));
            }
            _ => return Ok(()),
        }
        let data = accounts.join(name.as_str());
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(durable::failed(&data)(error)),
            _ => durable::sync_parent(&data).map_err(durable::failed(&data)),
        }
    }

    async fn stop(&mut self) -> Result<(), ServiceError> {
        self.runner
            .stop(&server_name())
            .await
            .map_err(runner_failed)?;
        self.is_kept = false;
        Ok(())
    }

    async fn keep(&mut self, spec: &ServerSpec) -> Result<(), ServiceError> {
        self.runner.keep(spec).await.map_err(runner_failed)?;
        self.is_kept = true;
        Ok(())
    }

    /// Replaces the configuration by one that the program understands.
    async fn write(
        &self,
        program: &Path,
        config: &Config,
        user: Option<&ServerUser>,
    ) -> Result<(), ServiceError> {
        let next = self.dir.join("nats.conf.next");
        durable::write_for(&next, &config.text, user)?;
        program::check(program, &next).await?;
        fs::rename(&next, self.config())
            .and_then(|()| durable::sync_parent(&next))
            .map_err(durable::failed(&self.config()))
    }

    /// Looks, and does what helps, until the server is as it should be.
    async fn become_ready(
        &mut self,
        settings: &Settings,
        config: &Config,
        spec: &ServerSpec,
        needed: Version,
    ) -> Result<(), ServiceError> {
        let name = server_name();
        let before = self.runner.state(&name, 0).await.restarts;
        let deadline = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(2);
        let mut reloads = 0;
        let mut has_restarted = false;
        loop {
            let (why, is_stuck) = match self.look(settings, config).await {
                Look::Ready(Some(version)) if version.satisfies(needed) => return Ok(()),
                Look::Ready(version) => {
                    let version = version.map(|version| version.to_string());
                    tracing::info!(
                        ?version,
                        needed = %needed,
                        "nats-server is started again, as a newer version"
                    );
                    ("it is not of the version that is needed".into(), true)
                }
                Look::Outdated if reloads < RELOADS => {
                    reloads += 1;
                    self.reload(settings).await;
                    ("it does not take its configuration".into(), false)
                }
                Look::Outdated => {
                    tracing::warn!(
                        "nats-server does not take its configuration while it runs: it is started again"
                    );
                    ("it does not take its configuration".into(), true)
                }
                Look::NotReady(why) => {
                    let state = self.runner.state(&name, 0).await;
                    if state.restarts >= before + CRASHES {
                        return Err(self.not_ready(why).await);
                    }
                    (why, false)
                }
            };
            if Instant::now() >= deadline || (is_stuck && has_restarted) {
                return Err(self.not_ready(why).await);
            }
            if is_stuck {
                has_restarted = true;
                reloads = 0;
                self.stop().await?;
                self.keep(spec).await?;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Tells the server to read its configuration again, and waits a while until it has.
    async fn reload(&self, settings: &Settings) {
        let monitor = Monitor::new(settings);
        let before = monitor.configured_at().await.ok();
        if let Err(error) = self
            .runner
            .signal(&server_name(), ServerSignal::Hangup)
            .await
        {
            // It has ended just now, and is about to be started with the new configuration.
            tracing::warn!(%error, "nats-server was not told of its new configuration");
            return;
        }
        let deadline = Instant::now() + RELOAD;
        while Instant::now() < deadline {
            if let Ok(now) = monitor.configured_at().await
                && Some(now) != before
            {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
        tracing::warn!(
            "nats-server has not taken its new configuration within {RELOAD:?}; its log says why"
        );
    }

    /// Two short exchanges, and nothing that the server would write to its log.
    async fn look(&self, settings: &Settings, config: &Config) -> Look {
        if let Err(error) = Monitor::new(settings).health().await {
            return Look::NotReady(error.into());
        }
        match client::login(settings.port, &config.probe, &settings.probe_password).await {
            Ok(version) => Look::Ready(version),
            Err(LoginError::Refused(_)) => Look::Outdated,
            Err(error) => Look::NotReady(error.into()),
        }
    }

    async fn not_ready(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> ServiceError {
        let server = server_name();
        ServiceError::NotReady {
            log: self.runner.state(&server, 20).await.log,
            server,
            source: source.into(),
        }
    }

    fn spec(&self, settings: &Settings, user: Option<ServerUser>) -> ServerSpec {
        ServerSpec {
            name: server_name(),
            program: settings.program.clone(),
            args: vec!["-c".to_owned(), self.config().display().to_string()],
            cwd: self.dir.clone(),
            env: [].into(),
            user,
            // After TERM it would end with code 1.
            stop_signal: ServerSignal::Interrupt,
            stop_grace: Duration::from_secs(10),
        }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("nats.conf")
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }
}

pub(super) fn settings_file(dir: &Path) -> PathBuf {
    dir.join("server.toml")
}

/// The least version that will do for all owners that are active.
pub(super) fn version_for(owners: &[(OwnerName, Owner)]) -> Version {
    let active = owners.iter().filter(|(_, owner)| owner.active);
    active
        .map(|(_, owner)| owner.version())
        .fold(Version::LEAST, Version::max)
}

fn runner_failed(source: crate::RunnerError) -> ServiceError {
    ServiceError::Runner {
        server: server_name(),
        source,
    }
}
