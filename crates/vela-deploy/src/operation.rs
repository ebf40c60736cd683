use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;
use vela_manifest::Manifest;
use vela_protocol::{Event, Operation as Kind, Report, Serving, Step, Who};
use vela_proxy::Replaced;
use vela_release::{Artifact, ReleaseId};
use vela_supervisor::PortLease;

use crate::app::{App, Old};
use crate::build::Built;
use crate::failpoint::Moment;
use crate::history::Events;
use crate::hosts::Place;
use crate::journal::{Durability, Journal, record};
use crate::launch::{Launch, Running, StopPermit};
use crate::plan::plan;
use crate::shared::Claim;
use crate::step_error::StepError;

/// What is asked of an app's actor: already validated.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) deploy: Uuid,
    pub(crate) who: Who,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) secrets: u64,
    pub(crate) what: What,
}

/// What an operation is done with.
#[derive(Debug)]
pub(crate) enum What {
    Deploy {
        /// What was uploaded.
        artifact: Artifact,
        /// Whether that is source, from which the artifact is built.
        build: bool,
        git: Option<String>,
        message: Option<String>,
    },
    Rollback {
        release: ReleaseId,
        hooks: bool,
    },
    Restart {
        release: ReleaseId,
    },
}

impl What {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            What::Deploy { .. } => Kind::Deploy,
            What::Rollback { .. } => Kind::Rollback,
            What::Restart { .. } => Kind::Restart,
        }
    }
}

/// An operation that is recorded and has done nothing yet.
pub(crate) struct Start {
    pub(crate) journal: Journal,
    id: ReleaseId,
    release: ReleaseId,
    previous: Option<ReleaseId>,
    steps: Vec<Step>,
}

/// One operation under way: the steps it has reached, and what each of them left to be undone.
pub(crate) struct Operation<'a> {
    pub(crate) app: &'a mut App,
    pub(crate) journal: Journal,
    pub(crate) claim: Claim,
    pub(crate) request: Request,
    /// The history id; for a deploy also the new release's.
    pub(crate) id: ReleaseId,
    pub(crate) release: ReleaseId,
    pub(crate) previous: Option<ReleaseId>,
    pub(crate) steps: Vec<Step>,
    pub(crate) reached: Vec<Step>,
    began: Instant,
    pub(crate) background: UnboundedSender<Event>,
    pub(crate) from_background: UnboundedReceiver<Event>,

    /// The artifact that was built here.
    pub(crate) built: Option<Built>,
    pub(crate) launch: Option<Arc<Launch>>,
    pub(crate) leases: VecDeque<PortLease>,
    pub(crate) new: Vec<Running>,
    /// Where the new instance listens, once it is its keeper's.
    pub(crate) kept_port: Option<u16>,
    pub(crate) old: Option<Old>,
    pub(crate) replaced: Option<Replaced>,
    /// The proof that the old instances have no requests any more.
    pub(crate) permit: Option<StopPermit>,
    /// The new release is read-only.
    pub(crate) sealed: bool,
    /// The route points at the new instances.
    pub(crate) switched: bool,
    pub(crate) committed: bool,
    /// Since when there is a certificate to be had for its hosts.
    pub(crate) certified_since: Option<Instant>,
}

impl<'a> Operation<'a> {
    /// Records the operation; from here on it ends with a terminal event, if need be after a crash.
    pub(crate) async fn record_start(app: &mut App, request: &Request) -> Result<Start, StepError> {
        app.call_off_removal()?;
        let releases = app.store(None)?.list().await.map_err(StepError::Store)?;
        let recorded = crate::history::ids(&app.dirs.history())?;
        let newest = releases.newest().max(recorded.last().copied());
        let id = ReleaseId::next_after(app.stack.clock.now(), newest);
        let release = match &request.what {
            What::Deploy { .. } => id,
            What::Rollback { release, .. } | What::Restart { release } => *release,
        };
        let steps = plan(
            request,
            app.keeper.is_some(),
            app.lacks_certificate(&request.manifest),
        );
        let (git, message) = match &request.what {
            What::Deploy { git, message, .. } => (git.clone(), message.clone()),
            _ => (None, None),
        };
        let started = Event::Started {
            app: app.name.to_string(),
            operation: request.what.kind(),
            release: release.to_string(),
            previous: releases.current.map(|previous| previous.to_string()),
            strategy: request.manifest.deploy.strategy.to_string(),
            by: request.who.clone(),
            steps: steps.clone(),
            git,
            message,
        };
        let (clock, dir) = (Arc::clone(&app.stack.clock), app.dirs.history());
        let mut journal = Journal::create(&dir, &id.to_string(), request.deploy, clock).await?;
        if let Err(error) = journal.append(started, Durability::Synced).await {
            journal.discard();
            return Err(error.into());
        }
        app.shared.set_exists(true);
        Ok(Start {
            journal,
            id,
            release,
            previous: releases.current,
            steps,
        })
    }

    pub(crate) fn new(
        app: &'a mut App,
        request: Request,
        claim: Claim,
        start: Start,
    ) -> Operation<'a> {
        let (background, from_background) = unbounded_channel();
        claim.set_observer(background.clone());
        let Start {
            journal,
            id,
            release,
            previous,
            steps,
        } = start;
        Operation {
            app,
            journal,
            claim,
            request,
            id,
            release,
            previous,
            steps,
            reached: Vec::new(),
            began: Instant::now(),
            background,
            from_background,
            built: None,
            launch: None,
            leases: VecDeque::new(),
            new: Vec::new(),
            kept_port: None,
            old: None,
            replaced: None,
            permit: None,
            sealed: false,
            switched: false,
            committed: false,
            certified_since: None,
        }
    }

    /// The events of the operation, from the first to the terminal one.
    pub(crate) fn events(&self) -> Events {
        self.journal.feed().events(0)
    }

    /// Takes the steps; undoes them when one fails before the commit point.
    pub(crate) async fn run(mut self) {
        let mut failure = None;
        for step in self.steps.clone() {
            if let Err(error) = self.take(step).await {
                // Before the undo, which removes what the report may look at.
                let report = error.report();
                failure = Some((step, error, report));
                break;
            }
        }
        let terminal = match failure {
            None => {
                let places = Place::all_of(&self.request.manifest);
                self.app.hosts.keep_only(&self.app.name, &places);
                Event::Succeeded {
                    release: self.release.to_string(),
                    ms: self.ms(),
                    recovered: false,
                }
            }
            Some((step, error, report)) => {
                let serving = crate::undo::undo(&mut self).await;
                self.app.release_hosts().await;
                self.failed(step, &error, report, serving)
            }
        };
        let serves = if self.committed {
            Some(self.release)
        } else {
            self.previous
        };
        self.app.sweep(serves).await;
        self.built = None;
        // Free before the client hears of the end: its next request must not find the app busy.
        let Operation {
            mut journal,
            mut from_background,
            claim,
            ..
        } = self;
        drop(claim);
        while let Ok(event) = from_background.try_recv() {
            record(&mut journal, event, Durability::Written).await;
        }
        record(&mut journal, terminal, Durability::Synced).await;
    }

    fn failed(&self, step: Step, error: &StepError, report: Report, serving: Serving) -> Event {
        match (error, self.claim.cancelled_by()) {
            (StepError::Cancelled, Some(by)) => Event::Cancelled {
                by,
                ms: self.ms(),
                serving,
            },
            _ => Event::Failed {
                step: Some(step),
                error: report,
                ms: self.ms(),
                serving,
            },
        }
    }

    /// One step: its intent is on disk before its first effect. A failure after the commit point is recorded only.
    async fn take(&mut self, step: Step) -> Result<(), StepError> {
        let may_go_on = if step < Step::Switch {
            self.claim.cancelled_by().is_none()
        } else {
            self.claim.refuse_cancel()
        };
        if !may_go_on && step <= Step::Switch {
            return Err(StepError::Cancelled);
        }
        self.claim.set_step(step);
        self.reached.push(step);
        if let Err(error) = self.intend(step).await {
            if !self.committed {
                return Err(error);
            }
            // Nothing is undone any more, so what is left is done without a record of its begin: all but the hook,
            // which the next daemon would run again.
            tracing::error!(app = %self.app.name, %step, error = %error.report(), "could not record that a step begins");
            if step == Step::PostDeploy {
                return Ok(());
            }
        }
        let began = Instant::now();
        let result = self.do_step(step).await;
        let ms = millis(began);
        match result {
            Ok(()) => {
                self.record(Event::StepFinished { step, ms }).await;
                Ok(())
            }
            Err(error) => {
                self.record(Event::StepFailed {
                    step,
                    ms,
                    error: error.report(),
                })
                .await;
                if step.is_undoable() && !self.committed {
                    Err(error)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Puts the intent to take a step on disk.
    async fn intend(&mut self, step: Step) -> Result<(), StepError> {
        self.app.stack.hit(step, Moment::Intent)?;
        let intent = Event::StepStarted { step };
        Ok(self.journal.append(intent, Durability::Synced).await?)
    }

    pub(crate) async fn record(&mut self, event: Event) {
        record(&mut self.journal, event, Durability::Written).await;
    }

    fn ms(&self) -> u64 {
        millis(self.began)
    }
}

/// Milliseconds since `since`.
pub(crate) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
