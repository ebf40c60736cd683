use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use vela_protocol::{Event, Hook, Stream};

use crate::hook_logs;
use crate::launch::{Launch, emit};
use crate::step_error::StepError;
use crate::task::Task;

/// How many lines of a failed hook an error quotes.
const QUOTED_LINES: usize = 10;
/// How many lines of a hook are events. What it writes beyond them is in its log.
const REPORTED_LINES: usize = 2000;

/// A hook that is about to run.
#[derive(Debug)]
pub(crate) struct HookRun<'a> {
    pub(crate) hook: Hook,
    pub(crate) command: &'a str,
    pub(crate) limit: Duration,
    /// What `PORT` says.
    pub(crate) port: u16,
}

impl HookRun<'_> {
    /// Runs it to its end, its time limit, or `cancelled`; in the last two cases all that it started is killed.
    pub(crate) async fn run(
        self,
        launch: &Arc<Launch>,
        events: &UnboundedSender<Event>,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<(), StepError> {
        let HookRun {
            hook,
            command,
            limit,
            port,
        } = self;
        let log = hook_logs::spec(&launch.dirs, &launch.operation, hook);
        let path = log.path.clone();
        let mut task = Task::start_logged(launch, log, command, port)
            .await
            .map_err(|source| StepError::HookStart { hook, source })?;
        let mut output = VecDeque::new();
        let mut count = 0;
        let on_line = |stream: Stream, line: String| {
            count += 1;
            if count <= REPORTED_LINES {
                emit(
                    events,
                    Event::HookPrinted {
                        hook,
                        stream,
                        line: line.clone(),
                    },
                );
            } else if count == REPORTED_LINES + 1 {
                let message = format!(
                    "the hook {hook} printed more than {REPORTED_LINES} lines: the rest is in {}",
                    path.display()
                );
                emit(events, Event::Warned { message });
            }
            output.push_back(line);
            if output.len() > QUOTED_LINES {
                output.pop_front();
            }
        };
        enum End {
            Exit(vela_supervisor::ExitStatus),
            TimedOut,
            Cancelled,
        }
        let end = tokio::select! {
            status = task.run(on_line) => End::Exit(status),
            () = tokio::time::sleep(limit) => End::TimedOut,
            () = cancelled => End::Cancelled,
        };
        if !matches!(end, End::Exit(_)) {
            task.kill().await;
        }
        let output = output.into();
        match end {
            End::Exit(status) if status.success() => Ok(()),
            End::Exit(status) => Err(StepError::Hook {
                hook,
                status,
                output,
            }),
            End::TimedOut => Err(StepError::HookTimedOut {
                hook,
                limit,
                output,
            }),
            End::Cancelled => Err(StepError::Cancelled),
        }
    }
}
