use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::attend::{Home, attend};
use crate::connection::{ANSWER, Connection, Greeting};
use crate::keeper::{Keeper, Role};
use crate::logs::LogWriter;
use crate::process::boot_id;
use crate::registry::{Claim, Registry};
use crate::start::start_error;
use crate::wire::{self, Report, StartFailure, State, Step};
use crate::{
    Exit, Instance, InstanceEvent, InstanceId, InstanceSpec, Signal, Stop, Supervisor,
    SupervisorError, child,
};

/// Keeps each instance under a thread of the host program: no files, no shim, and no instance
/// outlives the program, or this value.
///
/// If the host program is killed, main processes die with it, but the processes that they had
/// started do not. And a process that leaves both the tree and the session of its instance is
/// stopped with it only if it kept [`INSTANCE_VARIABLE`](crate::INSTANCE_VARIABLE).
#[derive(Debug, Default)]
pub struct InProcess {
    registry: Arc<Registry>,
}

impl InProcess {
    /// Without instances.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Supervisor for InProcess {
    async fn start(&self, spec: InstanceSpec) -> Result<Instance, SupervisorError> {
        let id = spec.id.clone();
        child::check(&spec).map_err(|problem| SupervisorError::InvalidSpec {
            id: id.clone(),
            problem,
        })?;
        let claim = self.registry.claim(&id)?;
        let (answer, answered) = oneshot::channel();
        tokio::spawn(start(self.registry.clone(), claim, spec, answer));
        answered
            .await
            .unwrap_or(Err(SupervisorError::NotFound { id }))
    }

    async fn stop(&self, id: &InstanceId, stop: &Stop) -> Result<Exit, SupervisorError> {
        self.registry.stopped(id, stop).await
    }

    async fn signal(&self, id: &InstanceId, signal: Signal) -> Result<(), SupervisorError> {
        self.registry.signal(id, wire::Command::Signal(signal))
    }

    async fn list(&self) -> Result<Vec<Instance>, SupervisorError> {
        Ok(self.registry.list())
    }

    fn watch(&self) -> BoxStream<'static, InstanceEvent> {
        self.registry.watch()
    }
}

async fn start(
    registry: Arc<Registry>,
    claim: Claim,
    spec: InstanceSpec,
    answer: oneshot::Sender<Result<Instance, SupervisorError>>,
) {
    let spec = Arc::new(spec);
    let result = greeted(&spec).await.map(|(instance, connection)| {
        attend(&registry, instance.clone(), Some(connection), Home::Thread);
        instance
    });
    drop(claim);
    if answer.send(result).is_err()
        && let Err(error) = registry.signal(&spec.id, wire::Command::Stop(Stop::now()))
    {
        tracing::debug!(%error, "an abandoned start has ended already");
    }
}

async fn greeted(spec: &Arc<InstanceSpec>) -> Result<(Instance, Connection), SupervisorError> {
    let failed = |source| SupervisorError::Spawn {
        id: spec.id.clone(),
        step: "starting a thread",
        source,
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut connection = Connection::new(ours).map_err(failed)?;
    let for_thread = spec.clone();
    // A thread for as long as the instance lives: the instance dies with it.
    thread::Builder::new()
        .name(format!("keep {}", spec.id))
        .spawn(move || {
            if let Err(error) = keep(&for_thread, theirs) {
                tracing::error!(%error, "cannot report a failed start");
            }
        })
        .map_err(failed)?;
    match connection.greeting(ANSWER).await.map_err(failed)? {
        Greeting::Started(state) => Ok((state.into_instance(), connection)),
        Greeting::Failed(failure) => Err(start_error(spec, failure)),
    }
}

fn keep(spec: &InstanceSpec, peer: UnixStream) -> io::Result<()> {
    match launch(spec) {
        Err(failure) => (&peer).write_all(&wire::encode(&Report::Failed(failure))?),
        Ok((child, state, log)) => {
            let mut keeper = Keeper::new(child, state, log, Role::Thread, peer);
            let exit = keeper.run();
            keeper.tell(exit);
            Ok(())
        }
    }
}

fn launch(spec: &InstanceSpec) -> Result<(child::Child, State, LogWriter), StartFailure> {
    let log = LogWriter::open(spec.log.clone())
        .map_err(|error| StartFailure::new(Step::OpenLog, &error))?;
    let boot_id = boot_id().map_err(|error| StartFailure::new(Step::Setup, &error))?;
    let started_at = Timestamp::now();
    let child = child::spawn(spec, None)?;
    let state = State {
        id: spec.id.clone(),
        labels: spec.labels.clone(),
        boot_id,
        shim: None,
        main: child.process,
        started_at,
        port: spec.port,
        spares: spec.spares.clone(),
    };
    Ok((child, state, log))
}
