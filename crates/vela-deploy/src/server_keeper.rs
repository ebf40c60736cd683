use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use vela_services::{ServerName, ServerSpec};
use vela_supervisor::{
    Backoff, Exit, INSTANCE_VARIABLE, Instance, InstanceEvent, InstanceId, InstanceSpec, LogSpec,
    Signal, Stop, Supervisor, SupervisorError, User,
};

use crate::launch::next_exit;
use crate::owner::Owner;
use crate::service_runner::signal_of;

/// How a server is stopped that was adopted and that nobody has asked for since: Postgres waits for no client then.
const UNKNOWN: Stop = Stop {
    signal: Signal::Int,
    grace: Duration::from_secs(10),
};

/// How long a server is not started because the last one's process still has its entry in the system's table.
const UNBURIED: Duration = Duration::from_secs(5);

/// What the keeper of a server is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Have it run, and go on running.
    Keep { spec: Box<ServerSpec>, reply: Reply },
    /// End it.
    Stop { reply: Reply },
}

type Reply = oneshot::Sender<Result<(), SupervisorError>>;

/// What is known of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Its instance and main process.
    pub(crate) running: Option<(InstanceId, u32)>,
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// How it ended the last time by itself.
    pub(crate) last_exit: Option<String>,
}

/// Keeps one server running. Orders are obeyed one at a time, so that there is never a second one of its name, and to
/// their end, whatever becomes of whoever gave them.
#[derive(Debug)]
pub(crate) struct ServerKeeper {
    name: ServerName,
    supervisor: Arc<dyn Supervisor>,
    log: PathBuf,
    tell: watch::Sender<Option<Seen>>,
    seen: Seen,
    /// How to start it again; nothing while it is not wanted, or nobody has said yet.
    spec: Option<Box<ServerSpec>>,
    running: Option<Running>,
    /// The process that ended by itself.
    ended: Option<u32>,
    /// It ended by itself, and has not been started since.
    has_crashed: bool,
    /// When it is to be started again.
    again: Option<Instant>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Running {
    id: InstanceId,
    since: Instant,
}

impl ServerKeeper {
    pub(crate) fn new(
        name: ServerName,
        supervisor: Arc<dyn Supervisor>,
        log: PathBuf,
        tell: watch::Sender<Option<Seen>>,
    ) -> ServerKeeper {
        ServerKeeper {
            name,
            supervisor,
            log,
            tell,
            seen: Seen::default(),
            spec: None,
            running: None,
            ended: None,
            has_crashed: false,
            again: None,
            backoff: Backoff::new(),
        }
    }

    /// Until nobody can give orders any more; the server goes on.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        // Before the list, so that no end falls between the two.
        let mut events = self.supervisor.watch();
        self.adopt().await;
        loop {
            let pause = self.again;
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Keep { spec, reply }) => {
                        let kept = self.keep(spec).await;
                        self.publish();
                        answer(reply, kept);
                    }
                    Some(Order::Stop { reply }) => {
                        let stopped = self.stop().await;
                        self.publish();
                        answer(reply, stopped);
                    }
                    None => return,
                },
                exit = exit_of(&mut events, self.running.as_ref()) => {
                    self.ended(exit);
                    self.publish();
                }
                () = sleep_until(pause) => {
                    self.start_again().await;
                    self.publish();
                }
            }
        }
    }

    /// Takes over a server that outlived the last program.
    async fn adopt(&mut self) {
        let owner = Owner::Service {
            server: self.name.to_string(),
        };
        let mut own: Vec<Instance> = match self.supervisor.list().await {
            Ok(all) => all
                .into_iter()
                .filter(|one| Owner::of(one).as_ref() == Some(&owner))
                .collect(),
            Err(error) => {
                tracing::error!(server = %self.name, %error, "could not look for a running server");
                Vec::new()
            }
        };
        own.sort_by_key(|one| one.started_at);
        let mut own = own.into_iter();
        if let Some(instance) = own.next() {
            tracing::info!(server = %self.name, pid = instance.pid, "adopted a server");
            self.runs(&instance);
        }
        for second in own {
            tracing::error!(server = %self.name, pid = second.pid, "a second server of the name: ending it");
            if let Err(error) = self.supervisor.stop(&second.id, &UNKNOWN).await {
                tracing::error!(server = %self.name, %error, "could not end it");
            }
        }
        self.publish();
    }

    async fn keep(&mut self, spec: Box<ServerSpec>) -> Result<(), SupervisorError> {
        if self.running.is_none() {
            self.again = None;
            let started = self.start(&spec).await;
            if started.is_err() {
                self.spec = None;
            }
            started?;
        }
        self.spec = Some(spec);
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), SupervisorError> {
        let how = self.spec.take().map_or(UNKNOWN, |spec| Stop {
            signal: signal_of(spec.stop_signal),
            grace: spec.stop_grace,
        });
        self.again = None;
        self.has_crashed = false;
        let Some(running) = &self.running else {
            return Ok(());
        };
        tracing::info!(server = %self.name, "stopping a server");
        match self.supervisor.stop(&running.id, &how).await {
            // One that the supervisor has forgotten has ended.
            Ok(_) | Err(SupervisorError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.running = None;
        self.seen.running = None;
        self.backoff = Backoff::new();
        Ok(())
    }

    /// It ended by itself.
    fn ended(&mut self, exit: Exit) {
        let Some(running) = self.running.take() else {
            return;
        };
        self.ended = self.seen.running.take().map(|(_, pid)| pid);
        self.has_crashed = true;
        self.seen.last_exit = Some(exit.status.to_string());
        let wanted = self.spec.is_some();
        tracing::warn!(server = %self.name, exit = %exit.status, wanted, "a server ended");
        if wanted {
            let pause = self.backoff.crashed(running.since.elapsed());
            self.again = Some(Instant::now() + pause);
        }
    }

    async fn start_again(&mut self) {
        self.again = None;
        let Some(spec) = self.spec.take() else { return };
        if let Err(error) = self.start(&spec).await {
            tracing::error!(server = %self.name, %error, "could not start a server again");
            self.seen.last_exit = Some(error.to_string());
            self.again = Some(Instant::now() + self.backoff.crashed(Duration::ZERO));
        }
        self.spec = Some(spec);
    }

    async fn start(&mut self, spec: &ServerSpec) -> Result<(), SupervisorError> {
        if let Some(pid) = self.ended.take() {
            buried(pid).await;
        }
        let id = InstanceId::random();
        let owner = Owner::Service {
            server: self.name.to_string(),
        };
        let plain =
            |(name, value): (&String, &String)| (name.clone(), SecretString::from(value.as_str()));
        let mut env: std::collections::BTreeMap<_, _> = spec.env.iter().map(plain).collect();
        env.insert(INSTANCE_VARIABLE.to_owned(), id.as_str().into());
        let user = spec.user.as_ref().map(|user| User {
            name: user.name.clone(),
            uid: user.uid,
            gid: user.gid,
            groups: Vec::new(),
            home: spec.cwd.clone(),
        });
        let instance = self
            .supervisor
            .start(InstanceSpec {
                labels: owner.labels(),
                args: spec.args.clone(),
                cwd: spec.cwd.clone(),
                env,
                user,
                log: LogSpec::new(&self.log),
                ..InstanceSpec::new(id, &spec.program)
            })
            .await?;
        tracing::info!(server = %self.name, pid = instance.pid, "started a server");
        self.seen.restarts += u64::from(std::mem::take(&mut self.has_crashed));
        self.runs(&instance);
        Ok(())
    }

    fn runs(&mut self, instance: &Instance) {
        self.seen.running = Some((instance.id.clone(), instance.pid));
        self.running = Some(Running {
            id: instance.id.clone(),
            since: Instant::now(),
        });
    }

    fn publish(&self) {
        self.tell.send_replace(Some(self.seen.clone()));
    }
}

/// The end of what runs; never, while nothing does. The events of others are passed over, so that they don't pile up.
async fn exit_of(
    events: &mut BoxStream<'static, InstanceEvent>,
    running: Option<&Running>,
) -> Exit {
    let is_it = |id: &InstanceId| running.is_some_and(|running| running.id == *id);
    next_exit(events, is_it).await.1
}

/// Waits until the system has forgotten a process that ended, and not for ever. That takes a while if its shim was
/// killed: it is up to the first process of the system then. Postgres takes it for a server that still runs.
async fn buried(pid: u32) {
    let stat = format!("/proc/{pid}/stat");
    let deadline = Instant::now() + UNBURIED;
    while Instant::now() < deadline
        && std::fs::read_to_string(&stat).is_ok_and(|stat| is_of_zombie(&stat))
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a line of the process table is of a process that has ended.
fn is_of_zombie(stat: &str) -> bool {
    // The name may hold anything.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| state.starts_with('Z'))
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn answer(reply: Reply, result: Result<(), SupervisorError>) {
    if reply.send(result).is_err() {
        tracing::debug!("whoever gave an order did not wait for its end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_waited_for_until_nobody_counts_it() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = child.id();
        let read = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
        while !read().is_ok_and(|stat| is_of_zombie(&stat)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waited = tokio::spawn(buried(pid));
        tokio::task::yield_now().await;
        assert!(!waited.is_finished());
        child.wait().expect("it has ended");
        waited.await.expect("it does not panic");
        assert!(read().is_err());
        assert!(!is_of_zombie("7 (Z) Z) S 1 7"));
    }
}
