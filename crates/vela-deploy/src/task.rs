use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use secrecy::SecretString;
use vela_protocol::Stream;
use vela_supervisor::logs::{self, LogLine, LogStream};
use vela_supervisor::{
    ExitStatus, InstanceEvent, InstanceId, InstanceSpec, LogSpec, Stop, SupervisorError,
};

use crate::beam;
use crate::dirs::AppDirs;
use crate::launch::{Launch, next_exit};
use crate::owner::Owner;
use crate::stack::Stack;
use crate::step_error::StepError;

/// A task's log, which is read as it is written, is rotated at this size.
const LOG_BYTES: u64 = 4 << 20;

/// A command of the user's that runs to its end: a hook, an exec probe, or a build. It runs under the supervisor, as
/// the app's user, so that a restarted daemon finds and ends it; a hook and a probe with the app's environment, in the
/// release directory.
///
/// Dropped before its end, it is killed with everything that it started.
pub(crate) struct Task {
    stack: Arc<Stack>,
    dirs: AppDirs,
    id: InstanceId,
    /// Where its log is, unless that is kept.
    passing_log: Option<PathBuf>,
    lines: BoxStream<'static, io::Result<LogLine>>,
    events: Option<BoxStream<'static, InstanceEvent>>,
    ended: bool,
}

impl Task {
    /// Starts a probe's `command` in a shell. `name` tells its log apart, which is removed with the task.
    pub(crate) async fn start(
        launch: &Arc<Launch>,
        name: &str,
        command: &str,
        port: u16,
    ) -> Result<Task, TaskError> {
        let id = InstanceId::random();
        let path = launch.dirs.logs().join(format!(".{name}.{id}.log"));
        let log = LogSpec {
            keep: 1,
            max_bytes: LOG_BYTES,
            ..LogSpec::new(&path)
        };
        let env = launch.probe_env(&id, port).await;
        let mut task = Task::start_as(launch, id, log, command, env).await?;
        task.passing_log = Some(path);
        Ok(task)
    }

    /// The same for a hook, whose log is kept.
    pub(crate) async fn start_logged(
        launch: &Arc<Launch>,
        log: LogSpec,
        command: &str,
        port: u16,
    ) -> Result<Task, TaskError> {
        let id = InstanceId::random();
        let env = launch.env(&id, port).await;
        Task::start_as(launch, id, log, command, env).await
    }

    async fn start_as(
        launch: &Arc<Launch>,
        id: InstanceId,
        log: LogSpec,
        command: &str,
        env: Result<BTreeMap<String, SecretString>, StepError>,
    ) -> Result<Task, TaskError> {
        let owner = Owner::Task {
            app: launch.app.to_string(),
            operation: launch.operation.clone(),
        };
        let spec = InstanceSpec {
            labels: owner.labels(),
            // The user's own shell string: nothing is interpolated into it, and it sees the environment.
            args: vec!["-c".to_owned(), command.to_owned()],
            cwd: launch.release.path.clone(),
            env: env.map_err(|error| TaskError::Env(Box::new(error)))?,
            user: launch.user.clone(),
            log,
            spares: beam::spares(launch.manifest.deploy.kind),
            ..InstanceSpec::new(id, "/bin/sh")
        };
        Task::spawn(&launch.stack, &launch.dirs, spec).await
    }

    /// Starts whatever `spec` says, of the app that has `dirs`.
    pub(crate) async fn spawn(
        stack: &Arc<Stack>,
        dirs: &AppDirs,
        spec: InstanceSpec,
    ) -> Result<Task, TaskError> {
        let (id, log) = (spec.id.clone(), &spec.log.path);
        // Before the start, so that not a line and not the end is missed.
        let lines = logs::follow(log).map_err(|source| TaskError::Log {
            path: log.clone(),
            source,
        })?;
        let events = stack.supervisor.watch();
        stack
            .supervisor
            .start(spec)
            .await
            .map_err(TaskError::Start)?;
        Ok(Task {
            stack: Arc::clone(stack),
            dirs: dirs.clone(),
            id,
            passing_log: None,
            lines,
            events: Some(events),
            ended: false,
        })
    }

    /// Waits for the end, and hands over each line as it is written.
    pub(crate) async fn run(
        &mut self,
        mut on_line: impl FnMut(Stream, String) + Send,
    ) -> ExitStatus {
        let Some(mut events) = self.events.take() else {
            return ExitStatus::Unknown;
        };
        let id = self.id.clone();
        let mut exit = std::pin::pin!(next_exit(&mut events, move |ended| *ended == id));
        let status = loop {
            tokio::select! {
                (_, exit) = &mut exit => break exit.status,
                Some(Ok(line)) = self.lines.next() => {
                    on_line(stream(line.stream), line.text);
                    // Lines of a file are always ready: whoever waits beside this must get a turn.
                    tokio::task::consume_budget().await;
                }
            }
        };
        self.ended = true;
        // The log is complete when the end is reported, so what can be read at once is all there is.
        while let Some(Some(Ok(line))) = self.lines.next().now_or_never() {
            on_line(stream(line.stream), line.text);
        }
        status
    }

    /// Kills it with everything that it started, and waits until all of it is gone.
    pub(crate) async fn kill(&mut self) {
        match self.stack.supervisor.stop(&self.id, &Stop::now()).await {
            Ok(_) => self.ended = true,
            Err(error) => tracing::warn!(instance = %self.id, %error, "could not kill a task"),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let (stack, dirs, id) = (Arc::clone(&self.stack), self.dirs.clone(), self.id.clone());
        let (ended, log) = (self.ended, self.passing_log.take());
        tokio::spawn(async move {
            let supervisor = &stack.supervisor;
            if !ended && let Err(error) = supervisor.stop(&id, &Stop::now()).await {
                tracing::warn!(instance = %id, %error, "could not stop a task");
            }
            dirs.forget_tmp_of(&id);
            let rotated = log.as_ref().map(|log| log.with_added_extension("1"));
            for log in rotated.into_iter().chain(log) {
                if let Err(error) = std::fs::remove_file(&log)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(log = %log.display(), %error, "could not remove the log of a task");
                }
            }
        });
    }
}

/// Why a task could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error("the environment could not be built")]
    Env(#[source] Box<StepError>),
    #[error("its log {} could not be followed", path.display())]
    Log {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the shell could not be started")]
    Start(#[source] SupervisorError),
}

pub(crate) fn stream(stream: LogStream) -> Stream {
    match stream {
        LogStream::Out => Stream::Stdout,
        LogStream::Err => Stream::Stderr,
    }
}
