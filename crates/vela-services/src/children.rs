use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use self::server::Server;
use crate::{Runner, RunnerError, ServerName, ServerSignal, ServerSpec, ServerState, ServerUser};

mod log;
mod server;
mod signals;
mod tree;
mod user;

/// Runs servers as plain child processes of this program: a [`Runner`] for programs without
/// supervision of their own, for examples and for tests.
///
/// - A server that ends by itself is started again after 100 ms, then 200 ms, .. up to ten
///   seconds; after one that ran for ten seconds, at once.
/// - Servers die with the value that started them, by KILL: stop them first. One that outlives
///   this program, which only a KILL of it brings about, is not found again.
/// - What a server writes goes to `<name>.log` in the log directory (0600), which is never rotated.
/// - A server hears HUP, INT, QUIT and TERM though this program ignores them, as in the background
///   of a shell: with the first start they are handled by nothing instead.
/// - As root a server may have a user of its own: `vela_<service>`, made by `useradd`.
#[derive(Debug)]
pub struct Children {
    log_dir: PathBuf,
    servers: Mutex<BTreeMap<ServerName, Arc<Server>>>,
}

impl Children {
    /// Writes the logs to `log_dir`, which is made when missing.
    #[must_use]
    pub fn new(log_dir: PathBuf) -> Self {
        Self {
            log_dir,
            servers: Mutex::default(),
        }
    }

    fn log(&self, name: &ServerName) -> PathBuf {
        self.log_dir.join(format!("{name}.log"))
    }

    fn find(&self, name: &ServerName) -> Option<Arc<Server>> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.get(name).cloned()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let servers = self
            .servers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for server in servers.values() {
            server.abandon();
        }
    }
}

#[async_trait]
impl Runner for Children {
    async fn user(&self, service: &str, home: &Path) -> Result<Option<ServerUser>, RunnerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        // An underscore, so that no app's user, `vela-<app>`, is ever the same.
        let (name, home) = (format!("vela_{service}"), home.to_owned());
        let action = format!("have the user {name}");
        let made = tokio::task::spawn_blocking(move || user::ensure(&name, &home)).await;
        match made {
            Ok(Ok(user)) => Ok(Some(user)),
            Ok(Err(error)) => Err(RunnerError::new(action, error)),
            Err(error) => Err(RunnerError::new(action, error)),
        }
    }

    async fn keep(&self, spec: &ServerSpec) -> Result<(), RunnerError> {
        let server = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Server::new(self.log(&spec.name)));
            Arc::clone(servers.entry(spec.name.clone()).or_insert_with(new))
        };
        server
            .keep(spec)
            .map_err(|source| RunnerError::new(format!("start {}", spec.name), source))
    }

    async fn stop(&self, name: &ServerName) -> Result<(), RunnerError> {
        let Some(server) = self.find(name) else {
            return Ok(());
        };
        let failed = |source| RunnerError::new(format!("stop {name}"), source);
        let (grace, mut tree) = server.ask_to_end().map_err(failed)?;
        if timeout(grace, server.ended()).await.is_err() {
            tree.extend(server.kill().map_err(failed)?);
            server.ended().await;
        }
        // What it started may have outlived it, in sessions of their own.
        tree.kill();
        timeout(Duration::from_secs(5), tree.gone())
            .await
            .map_err(|_| RunnerError::new(format!("end what {name} started"), "it does not die"))
    }

    async fn signal(&self, name: &ServerName, signal: ServerSignal) -> Result<(), RunnerError> {
        let sent = match self.find(name) {
            Some(server) => server.signal(signal),
            None => Err(std::io::Error::other("it does not run")),
        };
        sent.map_err(|source| RunnerError::new(format!("send a signal to {name}"), source))
    }

    async fn state(&self, name: &ServerName, lines: usize) -> ServerState {
        let mut state = self
            .find(name)
            .map(|server| server.state())
            .unwrap_or_default();
        if lines > 0 {
            let file = self.log(name);
            let tail = tokio::task::spawn_blocking(move || log::tail(&file, lines));
            state.log = tail.await.unwrap_or_default();
        }
        state
    }
}
