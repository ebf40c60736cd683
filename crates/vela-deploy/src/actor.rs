use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;
use vela_protocol::Who;
use vela_supervisor::{Backoff, Instance};

use crate::app::App;
use crate::desired::Removing;
use crate::error::EngineError;
use crate::history::Events;
use crate::journal::Feed;
use crate::maintenance::Maintenance;
use crate::operation::{Operation, Request};
use crate::shared::Claim;
use crate::step_error::StepError;
use crate::uploads::Uploads;

/// What an app's actor is told. Each carries the claim that keeps others out until it is done.
pub(crate) enum Command {
    Operate {
        request: Request,
        claim: Claim,
        upload: Option<Uuid>,
        reply: Reply<Events>,
    },
    Stop {
        claim: Claim,
        who: Who,
        reply: Reply<()>,
    },
    Maintain {
        claim: Claim,
        maintenance: Option<Maintenance>,
        who: Who,
        reply: Reply<()>,
    },
    Remove {
        claim: Claim,
        removing: Removing,
        who: Who,
        reply: Reply<()>,
    },
    /// The last one: stops the instances, or leaves them to their shims.
    Shutdown {
        stop_instances: bool,
        reply: oneshot::Sender<()>,
    },
}

type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What the actors share with the engine.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) uploads: Uploads,
    feeds: Mutex<HashMap<Uuid, Arc<Feed>>>,
}

impl Common {
    pub(crate) fn new(uploads: Uploads) -> Common {
        Common {
            uploads,
            feeds: Mutex::default(),
        }
    }

    /// The events of an operation that is under way.
    pub(crate) fn feed(&self, deploy: Uuid) -> Option<Arc<Feed>> {
        self.feeds().get(&deploy).cloned()
    }

    /// From now on the operation's events can be followed.
    pub(crate) fn publish(&self, deploy: Uuid, feed: &Arc<Feed>) {
        self.feeds().insert(deploy, Arc::clone(feed));
    }

    /// Removes what was uploaded for an operation that has ended.
    fn discard(&self, upload: Option<Uuid>) {
        if let Some(upload) = upload
            && let Err(error) = self.uploads.discard(upload)
        {
            tracing::warn!(%upload, %error, "could not remove an upload");
        }
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one app: first what the last daemon left undone, then one command after the other. `ready` is told as soon
/// as the app's route is in the table.
pub(crate) async fn run(
    mut app: App,
    common: Arc<Common>,
    alive: Option<Vec<Instance>>,
    mut commands: mpsc::Receiver<Command>,
    ready: oneshot::Sender<()>,
) {
    let mut unrestored = match alive {
        None => false,
        Some(alive) => recover(&mut app, &common, alive, Some(ready))
            .await
            .is_err(),
    };
    let mut backoff = Backoff::new();
    loop {
        let command = if unrestored {
            let pause = backoff.crashed(Duration::ZERO).max(Duration::from_secs(1));
            match tokio::time::timeout(pause, commands.recv()).await {
                Ok(command) => command,
                Err(_) => {
                    let alive = app.own_instances().await;
                    unrestored = recover(&mut app, &common, alive, None).await.is_err();
                    continue;
                }
            }
        } else {
            commands.recv().await
        };
        let Some(command) = command else { return };
        if let Err(error) = ready_for(&mut app, &common, &command, &mut unrestored).await {
            refuse(&app, &common, command, error).await;
            continue;
        }
        if app.keeper.is_none()
            && !matches!(command, Command::Shutdown { .. } | Command::Maintain { .. })
        {
            // What runs of an app that could not be restored is in nobody's care: nothing is put beside it.
            app.sweep(None).await;
            unrestored = false;
        }
        match command {
            Command::Operate {
                request,
                claim,
                upload,
                reply,
            } => {
                operate(&mut app, &common, request, claim, reply).await;
                common.discard(upload);
            }
            Command::Stop { claim, who, reply } => {
                let stopped = app.stop(&who).await;
                drop(claim);
                answer(reply, stopped);
            }
            Command::Maintain {
                claim,
                maintenance,
                who,
                reply,
            } => {
                let maintained = app.maintain(maintenance, &who).await;
                drop(claim);
                answer(reply, maintained);
            }
            Command::Remove {
                claim,
                removing,
                who,
                reply,
            } => {
                let removed = app.remove(removing, &who).await;
                drop(claim);
                answer(reply, removed);
            }
            Command::Shutdown {
                stop_instances,
                reply,
            } => {
                shut_down(&mut app, stop_instances).await;
                if reply.send(()).is_err() {
                    tracing::debug!(app = %app.name, "nobody waits for the app's end");
                }
                return;
            }
        }
    }
}

/// Whether a command can be begun. What is wanted of an app that could not be restored may not have been read yet: it
/// must not be overwritten before it is.
async fn ready_for(
    app: &mut App,
    common: &Common,
    command: &Command,
    unrestored: &mut bool,
) -> Result<(), EngineError> {
    let read = match command {
        Command::Maintain { .. } if *unrestored => {
            let alive = app.own_instances().await;
            let recovered = recover(app, common, alive, None).await;
            recovered.map(|()| *unrestored = false)
        }
        Command::Operate { .. } | Command::Stop { .. } if *unrestored => app.read_desired().await,
        _ => Ok(()),
    };
    read.map_err(|error| app.cannot(error))?;
    match command {
        // Removed since it was asked for, or just now: the next app of that name is another one.
        Command::Maintain { .. } | Command::Stop { .. } if !app.shared.exists() => {
            Err(EngineError::NoSuchApp {
                app: app.name.to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// Answers a command that could not be begun.
async fn refuse(app: &App, common: &Common, command: Command, error: EngineError) {
    match command {
        Command::Operate {
            claim,
            upload,
            reply,
            ..
        } => {
            app.release_hosts().await;
            drop(claim);
            common.discard(upload);
            answer(reply, Err(error));
        }
        Command::Stop { claim, reply, .. }
        | Command::Maintain { claim, reply, .. }
        | Command::Remove { claim, reply, .. } => {
            drop(claim);
            answer(reply, Err(error));
        }
        Command::Shutdown { .. } => {
            tracing::error!(app = %app.name, %error, "the app's end can't be refused");
        }
    }
}

/// Restores an app; `ready` is told as soon as its route is in the table, or can't be.
async fn recover(
    app: &mut App,
    common: &Common,
    alive: Vec<Instance>,
    ready: Option<oneshot::Sender<()>>,
) -> Result<(), StepError> {
    let recovery = app.recover(alive).await;
    let feed = recovery
        .as_ref()
        .ok()
        .and_then(|recovery| recovery.as_ref()?.feed());
    common.feeds().extend(feed.clone());
    if let Some(Err(())) = ready.map(|ready| ready.send(())) {
        tracing::debug!(app = %app.name, "nobody waits for the app's route");
    }
    let finished = match recovery {
        Ok(None) => return Ok(()),
        Ok(Some(recovery)) => app.finish_recovery(recovery).await,
        Err(error) => Err(error),
    };
    if let Some((deploy, _)) = feed {
        common.feeds().remove(&deploy);
    }
    if let Err(error) = &finished {
        tracing::error!(app = %app.name, error = %error.report(), "the app could not be restored; trying again");
        app.report_unrestored().await;
    }
    finished
}

async fn operate(
    app: &mut App,
    common: &Common,
    request: Request,
    claim: Claim,
    reply: Reply<Events>,
) {
    let deploy = request.deploy;
    match Operation::record_start(app, &request).await {
        Err(error) => {
            app.release_hosts().await;
            drop(claim);
            answer(reply, Err(app.cannot(error)));
        }
        Ok(start) => {
            let operation = Operation::new(app, request, claim, start);
            common.publish(deploy, operation.journal.feed());
            answer(reply, Ok(operation.events()));
            operation.run().await;
            common.feeds().remove(&deploy);
        }
    }
}

async fn shut_down(app: &mut App, stop_instances: bool) {
    if stop_instances {
        if let Err(error) = app.halt().await {
            tracing::error!(app = %app.name, %error, "could not stop the app");
        }
    } else if let Some(keeper) = app.keeper.take() {
        keeper.leave().await;
        tracing::info!(app = %app.name, "the app goes on without the daemon");
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, EngineError>) {
    if reply.send(result).is_err() {
        tracing::debug!("the client left before its answer");
    }
}
