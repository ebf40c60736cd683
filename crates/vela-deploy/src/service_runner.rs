use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use vela_services::{
    Runner, RunnerError, ServerName, ServerSignal, ServerSpec, ServerState, ServerUser,
};
use vela_supervisor::{Signal, Supervisor, SupervisorError, User, logs, users};

use crate::durable;
use crate::owner::Owner;
use crate::server_keeper::{Order, Seen, ServerKeeper};

/// Runs the servers of services under a [`Supervisor`], like the instances of apps: those that outlived the last
/// program are adopted, one that crashes is started again with growing pauses, a stop ends its whole tree.
///
/// Each server's lines go to `logs/<server>.log` below the directory of services. Dropping it leaves the servers to the
/// supervisor.
#[derive(Debug)]
pub struct ServiceRunner {
    supervisor: Arc<dyn Supervisor>,
    dir: PathBuf,
    servers: Mutex<BTreeMap<ServerName, Server>>,
}

/// How one server's keeper is reached.
#[derive(Debug, Clone)]
struct Server {
    orders: mpsc::Sender<Order>,
    /// Nothing until the keeper has looked for one that runs already.
    seen: watch::Receiver<Option<Seen>>,
}

impl ServiceRunner {
    /// Servers under `supervisor`, with their logs below `dir`, the directory of services. Spawns nothing.
    pub fn new(supervisor: Arc<dyn Supervisor>, dir: impl Into<PathBuf>) -> ServiceRunner {
        ServiceRunner {
            supervisor,
            dir: dir.into(),
            servers: Mutex::default(),
        }
    }

    /// Where a server's lines go.
    fn log(&self, name: &ServerName) -> PathBuf {
        log_path(&self.dir, name)
    }

    /// The one keeper of a server, begun at its first use.
    fn server(&self, name: &ServerName) -> Server {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // A keeper ends before its runner only with its runtime, or when it panicked.
        if let Some(server) = servers.get(name).filter(|one| !one.orders.is_closed()) {
            return server.clone();
        }
        let (orders, received) = mpsc::channel(4);
        let (tell, seen) = watch::channel(None);
        let supervisor = Arc::clone(&self.supervisor);
        let keeper = ServerKeeper::new(name.clone(), supervisor, self.log(name), tell);
        tokio::spawn(keeper.run(received));
        let server = Server { orders, seen };
        servers.insert(name.clone(), server.clone());
        server
    }

    async fn order(
        &self,
        name: &ServerName,
        action: &str,
        order: impl FnOnce(oneshot::Sender<Result<(), SupervisorError>>) -> Order,
    ) -> Result<(), RunnerError> {
        let (reply, answer) = oneshot::channel();
        let gone = || RunnerError::new(format!("{action} {name}"), "the program is ending");
        let orders = self.server(name).orders;
        orders.send(order(reply)).await.map_err(|_| gone())?;
        let done = answer.await.map_err(|_| gone())?;
        done.map_err(|source| RunnerError::new(format!("{action} {name}"), source))
    }

    /// What the keeper knows, once it knows whether the server runs already.
    async fn seen(&self, name: &ServerName) -> Seen {
        let mut seen = self.server(name).seen;
        match seen.wait_for(Option::is_some).await {
            Ok(seen) => seen.clone().unwrap_or_default(),
            Err(_) => Seen::default(),
        }
    }

    /// The servers' users pass through the directory; nobody lists it, and the logs are the daemon's alone.
    fn prepare(&self) -> io::Result<()> {
        let logs = self.dir.join("logs");
        if !logs.is_dir() {
            durable::make_dir(&self.dir, 0o711)?;
            std::fs::set_permissions(&self.dir, std::fs::Permissions::from_mode(0o711))?;
            durable::make_dir(&logs, 0o700)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Runner for ServiceRunner {
    async fn user(&self, service: &str, home: &Path) -> Result<Option<ServerUser>, RunnerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        // Its first own program may run before any server is kept.
        self.prepare()
            .map_err(|source| RunnerError::new("make the directory of services", source))?;
        // No app's user is named like this: an app's name has no `_`.
        let (name, home) = (format!("vela_{service}"), home.to_owned());
        let action = format!("make the user {name}");
        let made = tokio::task::spawn_blocking(move || users::ensure_system_user(&name, &home));
        match made.await {
            Ok(Ok(User { name, uid, gid, .. })) => Ok(Some(ServerUser { name, uid, gid })),
            Ok(Err(source)) => Err(RunnerError::new(action, source)),
            Err(source) => Err(RunnerError::new(action, source)),
        }
    }

    async fn keep(&self, spec: &ServerSpec) -> Result<(), RunnerError> {
        let name = &spec.name;
        self.prepare()
            .map_err(|source| RunnerError::new("make the directory of services", source))?;
        let spec = Box::new(spec.clone());
        self.order(name, "start", |reply| Order::Keep { spec, reply })
            .await
    }

    async fn stop(&self, name: &ServerName) -> Result<(), RunnerError> {
        self.order(name, "stop", |reply| Order::Stop { reply })
            .await
    }

    async fn signal(&self, name: &ServerName, signal: ServerSignal) -> Result<(), RunnerError> {
        let action = format!("send a signal to {name}");
        let Some((id, _)) = self.seen(name).await.running else {
            return Err(RunnerError::new(action, "it does not run"));
        };
        let sent = self.supervisor.signal(&id, signal_of(signal)).await;
        sent.map_err(|source| RunnerError::new(action, source))
    }

    async fn state(&self, name: &ServerName, lines: usize) -> ServerState {
        let seen = self.seen(name).await;
        let log = logs::tail(&self.log(name), lines).unwrap_or_else(|error| {
            tracing::warn!(server = %name, %error, "could not read the log of a server");
            Vec::new()
        });
        ServerState {
            pid: seen.running.map(|(_, pid)| pid),
            restarts: seen.restarts,
            last_exit: seen.last_exit,
            log: log.into_iter().map(|line| line.text).collect(),
        }
    }
}

/// Where a server's lines go, below the directory of services.
pub(crate) fn log_path(services: &Path, name: &ServerName) -> PathBuf {
    services.join("logs").join(format!("{name}.log"))
}

/// The servers that run under a supervisor, whoever keeps them.
pub(crate) async fn running_servers(
    supervisor: &dyn Supervisor,
) -> Result<BTreeSet<ServerName>, SupervisorError> {
    let of = |owner| match owner {
        Owner::Service { server } => ServerName::parse(&server).ok(),
        _ => None,
    };
    let all = supervisor.list().await?;
    Ok(all.iter().filter_map(Owner::of).filter_map(of).collect())
}

pub(crate) fn signal_of(signal: ServerSignal) -> Signal {
    match signal {
        ServerSignal::Hangup => Signal::Hup,
        ServerSignal::Interrupt => Signal::Int,
        // Whatever it may come to be called: every program ends for it.
        _ => Signal::Term,
    }
}
