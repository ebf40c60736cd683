use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::adopt::{Adopted, adopt_all};
use crate::connection::{Connection, Greeting, Home, attend};
use crate::registry::{Claim, Registry};
use crate::run_dir::{RunDir, lock_all};
use crate::wire::{self, StartFailure, StartRequest, Step};
use crate::{
    Exit, Instance, InstanceEvent, InstanceId, InstanceSpec, Signal, Skipped, Stop, Supervisor,
    SupervisorError, child, kernel,
};

/// Keeps each instance under a shim, a process of its own: instances outlive the host program, and
/// the next `ShimSupervisor` on the same run directory adopts them.
///
/// Dropping it leaves the instances running.
#[derive(Debug)]
pub struct ShimSupervisor {
    run_dir: PathBuf,
    shim: ShimCommand,
    registry: Arc<Registry>,
    adopted: Adopted,
    /// Held while this supervisor lives, and by the starts that are under way.
    lock: Arc<File>,
}

/// How to start the shim: a program that calls [`run_shim`](crate::run_shim) when it is given
/// these arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimCommand {
    /// The program file.
    pub program: PathBuf,
    /// Its arguments; they show in `ps`.
    pub args: Vec<OsString>,
}

impl ShimCommand {
    /// The host program itself, even after its file was replaced.
    pub fn this_program<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self {
            program: PathBuf::from("/proc/self/exe"),
            args,
        }
    }
}

impl ShimSupervisor {
    /// Opens a run directory, made when missing, and adopts what lives in it. What does not is
    /// cleaned away, the processes it left included. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`SupervisorError::RunDirInUse`] while another supervisor has it open.
    pub async fn open(
        run_dir: impl Into<PathBuf>,
        shim: ShimCommand,
    ) -> Result<Self, SupervisorError> {
        let run_dir = run_dir.into();
        let failed = |source| SupervisorError::RunDir {
            path: run_dir.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&run_dir)
            .map_err(failed)?;
        // Absolute, for the shim leaves the working directory.
        let path = fs::canonicalize(&run_dir).map_err(failed)?;
        let mut lock = lock_all(&path).map_err(failed)?;
        // If the last host was killed as it started a process, that one holds the lock as well
        // until it has executed its program.
        let deadline = Instant::now() + Duration::from_millis(300);
        while lock.is_none() && Instant::now() < deadline {
            sleep(Duration::from_millis(2)).await;
            lock = lock_all(&path).map_err(failed)?;
        }
        let lock = lock.ok_or_else(|| SupervisorError::RunDirInUse {
            path: run_dir.clone(),
        })?;
        let registry = Arc::new(Registry::default());
        let adopted = adopt_all(&path, &registry).await.map_err(failed)?;
        Ok(Self {
            run_dir: path,
            shim,
            registry,
            adopted,
            lock: Arc::new(lock),
        })
    }

    /// The instances that ended since the last supervisor on this run directory looked, found by
    /// [`open`](Self::open) and reported by no `watch`.
    #[must_use]
    pub fn ended_unwatched(&self) -> &[InstanceEvent] {
        &self.adopted.ended
    }

    /// The entries of the run directory that [`open`](Self::open) left alone.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.adopted.skipped
    }
}

#[async_trait]
impl Supervisor for ShimSupervisor {
    async fn start(&self, spec: InstanceSpec) -> Result<Instance, SupervisorError> {
        let id = spec.id.clone();
        child::check(&spec).map_err(|problem| SupervisorError::InvalidSpec {
            id: id.clone(),
            problem,
        })?;
        let start = Start {
            claim: self.registry.claim(&id)?,
            path: self.run_dir.join(id.as_str()),
            spec: Arc::new(spec),
            shim: self.shim.clone(),
            registry: self.registry.clone(),
            lock: self.lock.clone(),
        };
        // A task of its own: it has to finish or undo, whatever becomes of our caller.
        let (answer, answered) = oneshot::channel();
        tokio::spawn(start.run(answer));
        answered.await.unwrap_or_else(|_| {
            Err(SupervisorError::ShimFailed {
                id,
                said: "the start was given up".to_owned(),
            })
        })
    }

    async fn stop(&self, id: &InstanceId, stop: &Stop) -> Result<Exit, SupervisorError> {
        self.registry.stopped(id, wire::Command::Stop(*stop)).await
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

/// One start.
struct Start {
    claim: Claim,
    path: PathBuf,
    spec: Arc<InstanceSpec>,
    shim: ShimCommand,
    registry: Arc<Registry>,
    lock: Arc<File>,
}

impl Start {
    async fn run(self, answer: oneshot::Sender<Result<Instance, SupervisorError>>) {
        let result = self.greeted().await;
        let Self {
            claim,
            path,
            spec,
            registry,
            lock,
            ..
        } = self;
        let result = match result {
            Ok((instance, connection)) => {
                attend(&registry, instance.clone(), connection, Home::Shim(path));
                Ok(instance)
            }
            Err(error) => {
                clean(path).await;
                Err(error)
            }
        };
        // Before the answer: its receiver may start the same id, or open the directory again.
        drop((claim, lock));
        if answer.send(result).is_err()
            && let Err(error) = registry.signal(&spec.id, wire::Command::Stop(Stop::now()))
        {
            tracing::debug!(%error, "an abandoned start has failed or ended");
        }
    }

    async fn greeted(&self) -> Result<(Instance, Connection), SupervisorError> {
        let (path, shim, spec) = (self.path.clone(), self.shim.clone(), self.spec.clone());
        let (stream, shim) = spawn_blocking(move || launch(path, &shim, &spec))
            .await
            .map_err(|panic| SupervisorError::ShimFailed {
                id: self.spec.id.clone(),
                said: panic.to_string(),
            })??;
        let pid = Pid::from_child(&shim);
        reap(shim);
        let run_dir = |source| SupervisorError::RunDir {
            path: self.path.clone(),
            source,
        };
        let mut connection = Connection::new(stream).map_err(run_dir)?;
        match connection.greeting().await {
            Ok(Greeting::Started(state)) => Ok((state.into_instance(), connection)),
            Ok(Greeting::Failed(failure)) => Err(start_error(&self.spec, failure)),
            Err(error) => {
                // It is our child; were it reaped already, it would have answered.
                if let Err(error) =
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                {
                    tracing::debug!(%error, "a shim that failed is gone already");
                }
                let words = RunDir::open(self.path.clone()).map(|dir| dir.last_words());
                let said = words.ok().filter(|said| !said.is_empty());
                let said = said.unwrap_or_else(|| format!("it did not answer ({error})"));
                Err(SupervisorError::ShimFailed {
                    id: self.spec.id.clone(),
                    said,
                })
            }
        }
    }
}

/// Starts the shim and hands it the spec.
fn launch(
    path: PathBuf,
    shim: &ShimCommand,
    spec: &InstanceSpec,
) -> Result<(UnixStream, Child), SupervisorError> {
    let run_dir = |source| SupervisorError::RunDir {
        path: path.clone(),
        source,
    };
    let dir = RunDir::create(path.clone()).map_err(run_dir)?;
    let lock = dir.make_lock().map_err(run_dir)?;
    let listener = dir.listen().map_err(run_dir)?;
    let (ours, theirs) = UnixStream::pair().map_err(run_dir)?;

    // Three standard streams carry what a shim needs. Nothing else is set up here, so that this is
    // a posix_spawn, which costs the same however large the host program is.
    let mut command = Command::new(&shim.program);
    command.args(&shim.args).env_clear();
    command
        .stdin(OwnedFd::from(theirs))
        .stdout(OwnedFd::from(listener))
        .stderr(Stdio::from(lock));
    let failed = |source| SupervisorError::StartShim {
        program: shim.program.clone(),
        source,
    };
    let child = command.spawn().map_err(failed)?;
    drop(command); // closes our copies of the three

    let sent = wire::encode(&StartRequest::new(path.clone(), spec))
        .map_err(io::Error::from)
        .and_then(|request| {
            ours.set_write_timeout(Some(crate::connection::ANSWER))?;
            (&ours).write_all(&request)
        });
    if let Err(error) = sent {
        // It closed its end; why, it says in its last words, or not at all.
        tracing::debug!(%error, "a shim did not take its instance's spec");
    }
    Ok((ours, child))
}

/// Waits for a shim, which may outlive the supervisor that started it but is still our child.
fn reap(mut shim: Child) {
    let pidfd = pidfd_open(Pid::from_child(&shim), PidfdFlags::NONBLOCK);
    tokio::spawn(async move {
        let ended = match pidfd.map_err(io::Error::from).and_then(kernel::watch) {
            Ok(pidfd) => pidfd.readable().await.map(drop),
            Err(error) => Err(error),
        };
        // Without a pidfd (no descriptors left) a thread has to wait.
        let waited = match ended {
            Ok(()) => shim.try_wait().map(drop),
            Err(_) => match spawn_blocking(move || shim.wait()).await {
                Ok(waited) => waited.map(drop),
                Err(error) => Err(io::Error::other(error)),
            },
        };
        if let Err(error) = waited {
            tracing::debug!(%error, "cannot wait for a shim");
        }
    });
}

/// Removes an instance's directory.
pub(crate) async fn clean(path: PathBuf) {
    let removed = spawn_blocking(move || remove(&path)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "cannot remove the directory of an instance");
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match RunDir::open(path.to_owned()) {
        Ok(dir) => dir.remove(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A keeper's failure in the words of the trait.
pub(crate) fn start_error(spec: &InstanceSpec, failure: StartFailure) -> SupervisorError {
    let source = io::Error::from_raw_os_error(failure.errno);
    match failure.step {
        Step::Execute => SupervisorError::NotExecutable {
            program: spec.cwd.join(&spec.program),
            source,
        },
        Step::WorkingDirectory => SupervisorError::WorkingDirectory {
            path: spec.cwd.clone(),
            source,
        },
        Step::SwitchUser => {
            let user = spec
                .user
                .as_ref()
                .map(|user| user.name.clone())
                .unwrap_or_default();
            SupervisorError::SwitchUser { user, source }
        }
        Step::OpenLog => SupervisorError::OpenLog {
            path: spec.log.path.clone(),
            source,
        },
        step => SupervisorError::Spawn {
            id: spec.id.clone(),
            step: step.describe(),
            source,
        },
    }
}
