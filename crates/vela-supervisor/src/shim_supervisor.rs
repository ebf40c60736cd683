use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::adopt::{Adopted, adopt_all};
use crate::registry::Registry;
use crate::run_dir::{RunDir, lock_all};
use crate::start::Start;
use crate::{
    Exit, Instance, InstanceEvent, InstanceId, InstanceSpec, Signal, Skipped, Stop, Supervisor,
    SupervisorError, child, wire,
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
    /// A shim that lives and does not answer (it is stopped, or its disk hangs) is not waited for:
    /// its instance is adopted as its `state` describes it, and obeys once the shim does.
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
