use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::mpsc::UnboundedSender;
use vela_manifest::{AppName, BuildPlan, Manifest, Variable};
use vela_protocol::{Event, Stream};
use vela_release::ReleaseId;
use vela_supervisor::users::User;
use vela_supervisor::{ExitStatus, InstanceId, InstanceSpec};

use crate::build_logs;
use crate::dirs::AppDirs;
use crate::durable;
use crate::env::UnsetSecret;
use crate::error::StateError;
use crate::launch::emit;
use crate::owner::Owner;
use crate::stack::Stack;
use crate::step_error::StepError;
use crate::task::Task;

/// How many lines of a failed build an error quotes.
const QUOTED_LINES: usize = 30;
/// How many lines and bytes of a build are events. What it writes beyond them is in its log.
const REPORTED_LINES: usize = 2000;
const REPORTED_BYTES: usize = 1 << 20;

/// A build that is about to run.
pub(crate) struct BuildRun<'a> {
    pub(crate) stack: &'a Arc<Stack>,
    pub(crate) app: &'a AppName,
    pub(crate) dirs: &'a AppDirs,
    pub(crate) manifest: &'a Manifest,
    pub(crate) plan: &'a BuildPlan,
    pub(crate) release: ReleaseId,
    pub(crate) secrets: &'a BTreeMap<String, SecretString>,
    pub(crate) user: Option<&'a User>,
    /// Where the source is.
    pub(crate) tree: &'a Path,
    pub(crate) home: &'a Path,
}

impl BuildRun<'_> {
    /// Runs it to its end, its time limit, or `cancelled`; in the last two cases all that it started is killed.
    pub(crate) async fn run(
        &self,
        events: &UnboundedSender<Event>,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<(), StepError> {
        let mut task = self.start().await?;
        let mut output = Output {
            events,
            lines: 0,
            bytes: 0,
            last: VecDeque::new(),
        };
        enum End {
            Exit(ExitStatus),
            TimedOut,
            Cancelled,
        }
        let limit = self.plan.timeout;
        let end = tokio::select! {
            status = task.run(|stream, line| output.take(stream, line)) => End::Exit(status),
            () = tokio::time::sleep(limit) => End::TimedOut,
            () = cancelled => End::Cancelled,
        };
        if !matches!(end, End::Exit(_)) {
            task.kill().await;
        }
        let output = output.last.into();
        match end {
            End::Exit(status) if status.success() => Ok(()),
            End::Exit(status) => Err(StepError::Build { status, output }),
            End::TimedOut => Err(StepError::BuildTimedOut { limit, output }),
            End::Cancelled => Err(StepError::Cancelled),
        }
    }

    async fn start(&self) -> Result<Task, StepError> {
        let logs = self.dirs.build_logs();
        durable::make_dir(&logs, 0o700).map_err(StateError::at(&logs))?;
        let id = InstanceId::random();
        let owner = Owner::Task {
            app: self.app.to_string(),
            operation: self.release.to_string(),
        };
        let spec = InstanceSpec {
            labels: owner.labels(),
            // The user's own shell string: nothing is interpolated into it, and it sees the environment.
            args: vec!["-c".to_owned(), self.plan.command.clone()],
            cwd: self.tree.to_owned(),
            env: self.env(&id)?,
            user: self.user.cloned(),
            log: build_logs::spec(self.dirs, self.release),
            ..InstanceSpec::new(id, "/bin/sh")
        };
        let started = Task::spawn(self.stack, self.dirs, spec).await;
        started.map_err(StepError::BuildStart)
    }

    /// The whole environment: what every process of an app inherits, a home of its own, `[build.env]`, and who it is.
    ///
    /// Nothing of the app's own: what is built, and what it depends on, need not see the secrets that it runs with. Those
    /// that `[build.env]` names are given by name.
    fn env(&self, id: &InstanceId) -> Result<BTreeMap<String, SecretString>, UnsetSecret> {
        let value = |name: &str, variable: &Variable| match variable {
            Variable::DataDir => Ok(self.dirs.data().display().to_string()),
            Variable::App => Ok(self.app.to_string()),
            Variable::Release => Ok(self.release.to_string()),
            // Refused in the manifest, for there is none.
            Variable::Port | Variable::Socket => Ok(String::new()),
            Variable::Secret(key) => match self.secrets.get(key) {
                Some(secret) => Ok(secret.expose_secret().to_owned()),
                None => Err(UnsetSecret {
                    variable: format!("build.env.{name}"),
                    secret: key.clone(),
                }),
            },
        };
        let inherited = self.stack.inherited.clone().into_iter();
        let mut env: BTreeMap<String, String> = inherited.collect();
        env.insert("HOME".to_owned(), self.home.display().to_string());
        env.extend(self.manifest.build_env(self.plan, value)?);
        let own = [
            ("VELA_APP_NAME", self.app.to_string()),
            ("VELA_RELEASE", self.release.to_string()),
            ("VELA_INSTANCE", id.to_string()),
        ];
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let secret = |(name, value)| (name, SecretString::from(value));
        Ok(env.into_iter().map(secret).collect())
    }
}

/// What becomes of the lines that a build prints, beside its log.
struct Output<'a> {
    events: &'a UnboundedSender<Event>,
    lines: usize,
    bytes: usize,
    last: VecDeque<String>,
}

impl Output<'_> {
    fn take(&mut self, stream: Stream, line: String) {
        let was_reported = self.is_reported();
        self.lines += 1;
        self.bytes += line.len();
        if self.is_reported() {
            let line = line.clone();
            emit(self.events, Event::BuildPrinted { stream, line });
        } else if was_reported {
            let message =
                "the build prints much: the rest is in its log alone, `vela logs --build` shows it";
            let message = message.to_owned();
            emit(self.events, Event::Warned { message });
        }
        self.last.push_back(line);
        if self.last.len() > QUOTED_LINES {
            self.last.pop_front();
        }
    }

    fn is_reported(&self) -> bool {
        self.lines <= REPORTED_LINES && self.bytes <= REPORTED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn a_flood_of_lines_ends_and_the_last_are_known() {
        let (events, mut seen) = unbounded_channel();
        let mut output = Output {
            events: &events,
            lines: 0,
            bytes: 0,
            last: VecDeque::new(),
        };
        for number in 0..3000 {
            output.take(Stream::Stdout, number.to_string());
        }
        assert_eq!(output.last.front().unwrap(), "2970");
        assert_eq!(output.last.back().unwrap(), "2999");
        let mut seen: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
        assert!(matches!(seen.pop(), Some(Event::Warned { .. })));
        assert_eq!(seen.len(), REPORTED_LINES);
    }

    #[test]
    fn long_lines_count_by_their_bytes() {
        let (events, mut seen) = unbounded_channel();
        let mut output = Output {
            events: &events,
            lines: 0,
            bytes: 0,
            last: VecDeque::new(),
        };
        for _ in 0..100 {
            output.take(Stream::Stderr, "x".repeat(16 << 10));
        }
        let seen: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
        assert_eq!(seen.len(), 64 + 1);
    }
}
