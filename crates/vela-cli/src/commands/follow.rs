use futures::StreamExt;
use tokio::sync::mpsc;
use uuid::Uuid;
use vela_control::{Client, ClientError, EventStream};
use vela_manifest::AppName;
use vela_protocol::{AppState, Event, Operation, Step};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::{Narrator, verdict};

/// An operation that is shown to its end.
pub(crate) struct Following<'a> {
    pub(crate) client: &'a Client,
    pub(crate) app: &'a AppName,
    pub(crate) operation: Operation,
    /// Its id.
    pub(crate) deploy: Uuid,
    /// Whether it was begun here, so that Ctrl-C cancels it.
    pub(crate) own: bool,
}

/// How far Ctrl-C may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Traffic has not moved: it cancels.
    Undoable,
    /// The daemon was asked to undo it: it stops waiting.
    Cancelling,
    /// Traffic has moved, or it is someone else's: it looks away.
    Detachable,
}

/// Shows the events of an operation until it ends, and gives the failure that it ended with.
///
/// Ctrl-C before the switch asks the daemon to cancel and waits for the undo; after it, or a second time, it leaves the
/// operation to the daemon, to which it belongs.
pub(crate) async fn follow(
    context: &Context,
    following: &Following<'_>,
    begin: impl Future<Output = Result<EventStream, ClientError>>,
    mut narrator: Narrator,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let mut stage = match following.own {
        true => Stage::Undoable,
        false => Stage::Detachable,
    };
    tokio::pin!(begin);
    let begun = loop {
        tokio::select! {
            begun = &mut begin => break begun,
            // It may have been accepted already: cancelled is what has an answer.
            () = interrupts.next() => stage = following.interrupted(stage, &mut narrator)?,
        }
    };
    let events = match begun {
        Ok(events) => events,
        Err(error) => {
            narrator.close();
            return Err(following.refused(error).await);
        }
    };
    let terminal = following
        .watch(stage, events, &mut narrator, interrupts)
        .await;
    narrator.close();
    let (event, cancelled) = terminal?;
    let app = following.app.as_str();
    let verdict = verdict(app, following.operation, event, cancelled)?;
    context.screen.succeeded(&verdict)
}

impl Following<'_> {
    /// The terminal event, and whether it was asked for from here by a Ctrl-C.
    async fn watch(
        &self,
        mut stage: Stage,
        events: EventStream,
        narrator: &mut Narrator,
        interrupts: &mut Interrupts,
    ) -> Result<(Event, bool), Failure> {
        let (lost, mut losses) = mpsc::unbounded_channel();
        let mut events = events.on_reconnect(move |reconnecting| {
            // Fails when nobody follows any more.
            drop(lost.send(format!(
                "{}: attempt {} of {} to attach again",
                reconnecting.cause, reconnecting.attempt, reconnecting.of
            )));
        });
        let cancel = self.client.cancel(self.app.as_str(), Some(self.deploy));
        tokio::pin!(cancel);
        let mut asked = false;
        loop {
            tokio::select! {
                () = interrupts.next() => stage = self.interrupted(stage, narrator)?,
                answer = &mut cancel, if stage == Stage::Cancelling && !asked => {
                    asked = true;
                    if let Err(error) = answer {
                        narrator.line(&format!("not cancelled: {error}"));
                        // It is past the switch. A daemon that was lost is looked for by the events.
                        if matches!(error, ClientError::Api(_)) {
                            return Err(self.detached());
                        }
                    }
                }
                Some(line) = losses.recv() => narrator.line(&line),
                event = events.next() => {
                    let envelope = match event {
                        Some(Ok(envelope)) => envelope,
                        Some(Err(error)) => return Err(self.lost(error)),
                        // The stream promises a terminal event or an error.
                        None => return Err(self.detached().with_exit(Exit::Unreachable)),
                    };
                    narrator.event(&envelope)?;
                    match envelope.event {
                        Event::StepStarted { step } if step >= Step::Switch && stage == Stage::Undoable => {
                            stage = Stage::Detachable;
                        }
                        event if event.is_terminal() => {
                            return Ok((event, stage == Stage::Cancelling));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// What a Ctrl-C leads to: a cancel, or the end of watching.
    fn interrupted(&self, stage: Stage, narrator: &mut Narrator) -> Result<Stage, Failure> {
        match stage {
            Stage::Undoable => {
                narrator
                    .line("cancelling: waiting for the undo; Ctrl-C again leaves it to the server");
                Ok(Stage::Cancelling)
            }
            Stage::Cancelling | Stage::Detachable => {
                narrator.close();
                Err(self.detached())
            }
        }
    }

    /// Left by Ctrl-C.
    fn detached(&self) -> Failure {
        let (app, what) = (self.app, self.operation.as_str());
        Failure::interrupted(
            "interrupted",
            format!("the {what} of `{app}` belongs to the server and goes on there"),
        )
        .with_hint(format!(
            "`vela history {app} --follow` attaches to it; `vela history {app}` shows how it ended"
        ))
    }

    /// The daemon was lost and not found again.
    fn lost(&self, error: ClientError) -> Failure {
        let (app, what) = (self.app, self.operation.as_str());
        let failure = match error.is_unreachable() {
            // How to reach it is known: it was reached before.
            true => Failure::of(&error).with_exit(Exit::Unreachable),
            false => Failure::from(error),
        };
        failure
            .with_hint(format!("`vela history {app}` shows how it ended"))
            .with_state(format!(
                "the {what} of `{app}` belongs to the server and may go on there"
            ))
    }

    /// The operation never began: says what serves meanwhile, if the daemon can still tell.
    pub(crate) async fn refused(&self, error: ClientError) -> Failure {
        let api = matches!(error, ClientError::Api(_));
        let failure = Failure::from(error);
        if !api || failure.state.is_some() {
            return failure.with_state("nothing was changed");
        }
        let Ok(status) = self.client.status(self.app.as_str()).await else {
            return failure.with_state("nothing was changed");
        };
        match (status.state, status.release) {
            (AppState::Running, Some(release)) => {
                let deploy_failed =
                    failure.exit == Exit::Error && self.operation == Operation::Deploy;
                let failure = failure.with_state(format!("`{}` still serves {release}", self.app));
                match deploy_failed {
                    true => failure.with_exit(Exit::StillServing),
                    false => failure,
                }
            }
            (state, _) => {
                failure.with_state(format!("`{}` is {}, as before", self.app, state.as_str()))
            }
        }
    }
}
