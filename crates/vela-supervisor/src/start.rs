use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::adopt;
use crate::attend::{Home, attend};
use crate::connection::{ANSWER, Connection, Greeting};
use crate::registry::{Claim, Registry};
use crate::run_dir::RunDir;
use crate::shim_supervisor::clean;
use crate::tree::KILL_DEADLINE;
use crate::wire::{self, StartFailure, StartRequest, Step};
use crate::{Instance, InstanceSpec, ShimCommand, Stop, SupervisorError};

/// One start of an instance under a shim.
pub(crate) struct Start {
    pub(crate) claim: Claim,
    pub(crate) path: PathBuf,
    pub(crate) spec: Arc<InstanceSpec>,
    pub(crate) shim: ShimCommand,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lock: Arc<File>,
}

impl Start {
    pub(crate) async fn run(self, answer: oneshot::Sender<Result<Instance, SupervisorError>>) {
        let result = self.greeted().await;
        let Self {
            claim,
            path,
            spec,
            registry,
            lock,
            ..
        } = self;
        let result = result.map(|(instance, connection)| {
            attend(
                &registry,
                instance.clone(),
                Some(connection),
                Home::Shim(path),
            );
            instance
        });
        // Before the answer: its receiver may start the same id, or open the directory again.
        drop((claim, lock));
        if answer.send(result).is_err()
            && let Err(error) = registry.signal(&spec.id, wire::Command::Stop(Stop::now()))
        {
            tracing::debug!(%error, "an abandoned start has failed or ended");
        }
    }

    /// Undone when it fails.
    async fn greeted(&self) -> Result<(Instance, Connection), SupervisorError> {
        let (path, shim, spec) = (self.path.clone(), self.shim.clone(), self.spec.clone());
        let (stream, mut shim) = spawn_blocking(move || launch(path, &shim, &spec))
            .await
            .map_err(|panic| self.failed(panic.to_string()))??;
        let greeting = match Connection::new(stream) {
            Ok(mut connection) => connection
                .greeting(ANSWER)
                .await
                .map(|greeting| (greeting, connection)),
            Err(error) => Err(error),
        };
        match greeting {
            Ok((Greeting::Started(state), connection)) => {
                reap(shim);
                Ok((state.into_instance(), connection))
            }
            Ok((Greeting::Failed(failure), _)) => {
                reap(shim);
                clean(self.path.clone()).await;
                Err(start_error(&self.spec, failure))
            }
            Err(error) => {
                let killed = timeout(KILL_DEADLINE, shim.kill()).await;
                if !matches!(killed, Ok(Ok(()))) {
                    tracing::error!(id = %self.spec.id, ?killed, "cannot kill a shim");
                }
                let words = RunDir::open(self.path.clone()).map(|dir| dir.last_words());
                let said = words.ok().filter(|said| !said.is_empty());
                // It may have executed the program before it failed.
                adopt::bury_failed(&self.spec.id, &self.path).await;
                Err(self.failed(said.unwrap_or_else(|| format!("it did not answer ({error})"))))
            }
        }
    }

    fn failed(&self, said: String) -> SupervisorError {
        SupervisorError::ShimFailed {
            id: self.spec.id.clone(),
            said,
        }
    }
}

/// Starts the shim and hands it the spec. Leaves no directory when it fails, unless somebody else
/// made it.
fn launch(
    path: PathBuf,
    shim: &ShimCommand,
    spec: &InstanceSpec,
) -> Result<(UnixStream, Child), SupervisorError> {
    let dir = RunDir::create(path.clone()).map_err(|source| SupervisorError::RunDir {
        path: path.clone(),
        source,
    })?;
    let launched = launch_in(&dir, shim, spec);
    if launched.is_err()
        && let Err(error) = dir.remove()
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a directory");
    }
    launched
}

fn launch_in(
    dir: &RunDir,
    shim: &ShimCommand,
    spec: &InstanceSpec,
) -> Result<(UnixStream, Child), SupervisorError> {
    let run_dir = |source| SupervisorError::RunDir {
        path: dir.path().to_owned(),
        source,
    };
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

    if let Err(error) = hand_over(&ours, dir.path(), spec) {
        // It closed its end; why, it says in its last words, or not at all.
        tracing::debug!(%error, "a shim did not take its instance's spec");
    }
    Ok((ours, child))
}

fn hand_over(mut shim: &UnixStream, run_dir: &Path, spec: &InstanceSpec) -> io::Result<()> {
    let request = wire::encode(&StartRequest::new(run_dir.to_owned(), spec))?;
    shim.set_write_timeout(Some(ANSWER))?;
    shim.write_all(&request)
}

/// Waits for a shim, which may outlive the supervisor that started it but is still our child.
fn reap(mut shim: Child) {
    tokio::spawn(async move {
        if let Err(error) = shim.wait().await {
            tracing::debug!(%error, "cannot wait for a shim");
        }
    });
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
