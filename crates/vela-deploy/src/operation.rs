use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;
use vela_manifest::{Domain, Manifest};
use vela_protocol::{Event, Operation as Kind, Report, Serving, Step, Who};
use vela_proxy::Replaced;
use vela_release::{Artifact, ReleaseId};
use vela_supervisor::PortLease;

use crate::app::{App, Old};
use crate::history::Events;
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
        artifact: Artifact,
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
    previous_hosts: Vec<Domain>,
    pub(crate) steps: Vec<Step>,
    pub(crate) reached: Vec<Step>,
    began: Instant,
    pub(crate) background: UnboundedSender<Event>,
    pub(crate) from_background: UnboundedReceiver<Event>,

    pub(crate) launch: Option<Arc<Launch>>,
    pub(crate) leases: VecDeque<PortLease>,
    pub(crate) new: Vec<Running>,
    pub(crate) old: Option<Old>,
    pub(crate) replaced: Option<Replaced>,
    /// The proof that the old instances have no requests any more.
    pub(crate) permit: Option<StopPermit>,
    /// The route points at the new instances.
    pub(crate) switched: bool,
    pub(crate) committed: bool,
}

impl<'a> Operation<'a> {
    /// Records the operation; from here on it ends with a terminal event, if need be after a crash.
    pub(crate) async fn begin(
        app: &'a mut App,
        request: Request,
        claim: Claim,
    ) -> Result<Operation<'a>, StepError> {
        let previous_hosts = app.current_hosts().await;
        let releases = app.store(None)?.list().await.map_err(StepError::Store)?;
        let recorded = crate::history::ids(&app.dirs.history())?;
        let newest = releases
            .newest()
            .max(recorded.last().and_then(|id| id.parse().ok()));
        let id = ReleaseId::next_after(app.stack.clock.now(), newest);
        let release = match &request.what {
            What::Deploy { .. } => id,
            What::Rollback { release, .. } | What::Restart { release } => *release,
        };
        let (clock, dir) = (Arc::clone(&app.stack.clock), app.dirs.history());
        let journal = Journal::create(&dir, &id.to_string(), request.deploy, clock).await?;
        let (background, from_background) = unbounded_channel();
        claim.set_observer(background.clone());
        let mut operation = Operation {
            steps: plan(&request, app.keeper.is_some()),
            app,
            journal,
            claim,
            request,
            id,
            release,
            previous: releases.current,
            previous_hosts,
            reached: Vec::new(),
            began: Instant::now(),
            background,
            from_background,
            launch: None,
            leases: VecDeque::new(),
            new: Vec::new(),
            old: None,
            replaced: None,
            permit: None,
            switched: false,
            committed: false,
        };
        let started = operation.started();
        if let Err(error) = operation.journal.append(started, Durability::Synced).await {
            operation.journal.discard();
            return Err(error.into());
        }
        operation.app.shared.set_exists(true);
        Ok(operation)
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
                let hosts: Vec<_> = self.request.manifest.app.hosts().cloned().collect();
                self.app.hosts.keep_only(&self.app.name, &hosts);
                Event::Succeeded {
                    release: self.release.to_string(),
                    ms: self.ms(),
                    recovered: false,
                }
            }
            Some((step, error, report)) => {
                let serving = crate::undo::undo(&mut self).await;
                self.app
                    .hosts
                    .keep_only(&self.app.name, &self.previous_hosts);
                self.failed(step, &error, report, serving)
            }
        };
        let serves = if self.committed {
            Some(self.release)
        } else {
            self.previous
        };
        self.app.sweep(serves).await;
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

    fn started(&self) -> Event {
        let (git, message) = match &self.request.what {
            What::Deploy { git, message, .. } => (git.clone(), message.clone()),
            _ => (None, None),
        };
        Event::Started {
            app: self.app.name.to_string(),
            operation: self.request.what.kind(),
            release: self.release.to_string(),
            previous: self.previous.map(|previous| previous.to_string()),
            strategy: self.request.manifest.deploy.strategy.to_string(),
            by: self.request.who.clone(),
            steps: self.steps.clone(),
            git,
            message,
        }
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
        self.journal
            .append(Event::StepStarted { step }, Durability::Synced)
            .await?;
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

    /// What started the new instances, if it came to that.
    pub(crate) fn launch_made(&self) -> Option<Arc<Launch>> {
        self.launch.clone()
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
