use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;
use uuid::Uuid;
use vela_manifest::Manifest;
use vela_protocol::{Event, Hook, Operation as Kind, Outcome, Report, Step};
use vela_release::ReleaseId;
use vela_supervisor::Instance;

use crate::app::App;
use crate::desired::{Desired, Removing};
use crate::error::StateError;
use crate::history::{self, Record};
use crate::hook::HookRun;
use crate::hosts::Place;
use crate::journal::{Durability, Feed, Journal, record, recording};
use crate::keeper::Begin;
use crate::launch::{Launch, Running};
use crate::meta::Meta;
use crate::operation::millis;
use crate::owner::Owner;
use crate::step_error::StepError;

/// What a restarted daemon found of an app, and has still to do once the app's route is in the table.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// The removal that the crash interrupted: there is nothing else to do then.
    removing: Option<Removing>,
    /// The release that should run, if one should.
    restore: Option<Restore>,
    /// Instances of superseded or undone releases, and tasks of interrupted operations.
    leftover: Vec<Instance>,
    /// The operation that the crash interrupted.
    interrupted: Option<(Last, Journal)>,
}

#[derive(Debug)]
struct Restore {
    launch: Arc<Launch>,
    adopted: Vec<Running>,
}

/// The newest operation of an app.
#[derive(Debug)]
struct Last {
    record: Record,
    kind: Kind,
    release: ReleaseId,
    previous: Option<ReleaseId>,
    committed: bool,
}

impl Recovery {
    /// The interrupted operation's events, for clients that wait for its end.
    pub(crate) fn feed(&self) -> Option<(Uuid, Arc<Feed>)> {
        let (last, journal) = self.interrupted.as_ref()?;
        Some((last.record.deploy(), Arc::clone(journal.feed())))
    }
}

impl App {
    /// Reads the state, decides what the interrupted operation has come to, and puts the app's route into the table.
    /// Gives nothing when there is no app.
    ///
    /// Changes nothing else on disk: a crash in it leaves what was there.
    pub(crate) async fn recover(
        &mut self,
        alive: Vec<Instance>,
    ) -> Result<Option<Recovery>, StepError> {
        // Until it is known better: an app of which something can't be read must be seen, to be stopped or removed.
        self.shared.set_exists(true);
        self.read_desired().await?;
        if let Some(removing) = self.desired.removing {
            self.shared.set_stopped(None, None, false);
            return Ok(Some(Recovery {
                removing: Some(removing),
                leftover: alive,
                ..Recovery::default()
            }));
        }
        let last = history::read_last(&self.dirs.history())?;
        if !self.dirs.logs().exists() && last.as_ref().is_none_or(Record::is_ended) {
            // Data, secrets or history of an app that was removed, or never deployed.
            self.stop_leftover(&alive).await;
            self.shared.set_exists(false);
            return Ok(None);
        }
        let current = self.current_manifest().await?;
        let last = match last {
            Some(record) => self.judge(record, current.as_ref().map(|(release, _)| *release))?,
            None => None,
        };
        if let Some(last) = last.as_ref().filter(|last| last.committed) {
            self.catch_up(last)?;
        }
        let interrupted = match last.filter(|last| !last.record.is_ended()) {
            Some(last) => {
                let clock = Arc::clone(&self.stack.clock);
                let journal = Journal::reopen(&last.record, clock).await?;
                Some((last, journal))
            }
            None => None,
        };
        let Some((release, manifest)) = current else {
            self.shared.set_stopped(None, None, false);
            return Ok(Some(Recovery {
                leftover: alive,
                interrupted,
                ..Recovery::default()
            }));
        };
        let places = Place::all_of(&manifest);
        if let Err(taken) = self.hosts.claim(&self.name, &places) {
            tracing::error!(app = %self.name, host = %taken.place, by = %taken.by, "another app has a host of this one");
        }
        self.want_certificate(&manifest);
        if !self.desired.running {
            // The hosts stay the app's: they answer 503, as they did before.
            let applied = self.serve_nothing(release, &manifest).await;
            applied.map(drop_replaced).map_err(StepError::Route)?;
            self.shared
                .set_stopped(Some(release), Some(manifest), false);
            return Ok(Some(Recovery {
                leftover: alive,
                interrupted,
                ..Recovery::default()
            }));
        }
        let (kept, leftover): (Vec<_>, Vec<_>) = alive
            .into_iter()
            .partition(|one| self.is_wanted(one, release));
        let restore = self.restore(release, manifest, kept).await?;
        Ok(Some(Recovery {
            restore: Some(restore),
            leftover,
            interrupted,
            ..Recovery::default()
        }))
    }

    /// Reads what is wanted of the app, and keeps it from its users if that is wanted.
    pub(crate) async fn read_desired(&mut self) -> Result<(), StepError> {
        self.desired = Desired::read(&self.dirs.desired())?;
        // Before there is a route: no request must come through meanwhile.
        self.apply_maintenance().await.map_err(StepError::Route)
    }

    /// The rest: ends what is left over, starts or adopts what should run, and writes the interrupted operation's end.
    ///
    /// Fails only where a removal can't be finished, which may wait for a service.
    pub(crate) async fn finish_recovery(&mut self, recovery: Recovery) -> Result<(), StepError> {
        let Recovery {
            removing,
            restore,
            leftover,
            interrupted,
        } = recovery;
        if let Some(removing) = removing {
            self.stop_leftover(&leftover).await;
            return self.take_away(removing).await;
        }
        let adopted = restore.iter().flat_map(|restore| &restore.adopted);
        let alive = adopted.map(|one| &one.instance).chain(&leftover);
        self.sweep_tmp(alive.map(|one| one.id.clone()).collect())
            .await;
        let adopted = restore.iter().flat_map(|restore| &restore.adopted);
        self.sweep_sockets(adopted.map(|one| one.lease.port()).collect())
            .await;
        // An adopted instance serves at once. Where there is none, what is left over ends first: of an app that
        // allows one process only there must never be two.
        let adopts = restore
            .as_ref()
            .is_some_and(|restore| !restore.adopted.is_empty());
        if !adopts {
            self.stop_leftover(&leftover).await;
        }
        let launch = restore.as_ref().map(|restore| Arc::clone(&restore.launch));
        if let Some(Restore { launch, adopted }) = restore {
            if adopts {
                launch.ask_services_aside();
            }
            self.keep(launch, Begin::Adopted(adopted));
        }
        if adopts {
            self.stop_leftover(&leftover).await;
        }
        if let Err(error) = self.sweep_task_logs() {
            tracing::warn!(app = %self.name, %error, "could not remove the logs of tasks");
        }
        if let Some((interrupted, journal)) = interrupted
            && let Err(error) = self.settle(interrupted, journal, launch).await
        {
            tracing::error!(app = %self.name, error = %error.report(), "could not settle the interrupted operation");
        }
        Ok(())
    }

    /// Whether the newest operation has committed.
    fn judge(&self, record: Record, current: Option<ReleaseId>) -> Result<Option<Last>, StepError> {
        let Event::Started {
            operation,
            release,
            previous,
            ..
        } = &record.events[0].event
        else {
            return Ok(None);
        };
        let parse = |text: &str| {
            text.parse::<ReleaseId>()
                .map_err(|source| StateError::damaged(&record.path, source))
        };
        let (kind, release) = (*operation, parse(release)?);
        let previous = previous.as_deref().map(parse).transpose()?;
        let committed = match (record.entry().map(|entry| entry.outcome), kind) {
            (Some(Outcome::Succeeded), _) => true,
            (Some(Outcome::Failed | Outcome::Cancelled), _) => false,
            (_, Kind::Restart) => self.desired.operation.as_ref() == Some(&record.id),
            _ => current == Some(release),
        };
        Ok(Some(Last {
            record,
            kind,
            release,
            previous,
            committed,
        }))
    }

    /// `desired.toml` is written after the commit of a deploy or rollback: a crash or a full disk in between leaves one
    /// that speaks of the operation before. One that names this operation is newer than its commit, and right.
    fn catch_up(&mut self, last: &Last) -> Result<(), StateError> {
        if self.desired.operation.as_ref() == Some(&last.record.id) {
            return Ok(());
        }
        self.desired.running = true;
        self.desired.operation = Some(last.record.id.clone());
        self.desired.secrets = Meta::read(&self.dirs, last.release)?.secrets;
        Ok(())
    }

    /// Whether an instance that outlived the last daemon is one of those that should serve.
    pub(crate) fn is_wanted(&self, instance: &Instance, current: ReleaseId) -> bool {
        match Owner::of(instance) {
            Some(Owner::Release {
                release, operation, ..
            }) => release == current.to_string() && Some(operation) == self.desired.operation,
            _ => false,
        }
    }

    async fn restore(
        &self,
        release: ReleaseId,
        manifest: Arc<Manifest>,
        kept: Vec<Instance>,
    ) -> Result<Restore, StepError> {
        let operation = self
            .desired
            .operation
            .clone()
            .unwrap_or_else(|| release.to_string());
        let launch = self
            .launch(release, manifest, &operation, self.desired.secrets)
            .await?;
        let mut adopted = Vec::new();
        for instance in kept {
            // An instance without a port can't be routed to: it is none of ours.
            let Some(port) = instance.port else { continue };
            let lease = self.stack.ports.adopt(port);
            adopted.push(Running { instance, lease });
        }
        match &self.stack.park {
            Some(park) => launch.park(&**park).await,
            None => launch.serve(&adopted).await,
        }
        .map(drop_replaced)
        .map_err(StepError::Route)?;
        self.shared
            .set_instances(&launch, &adopted, crate::shared::Health::Starting);
        Ok(Restore { launch, adopted })
    }

    /// Finishes an operation that had committed, or undoes one that had not, and records its end.
    async fn settle(
        &mut self,
        interrupted: Last,
        mut journal: Journal,
        launch: Option<Arc<Launch>>,
    ) -> Result<(), StepError> {
        let Last {
            record: found,
            kind,
            release,
            previous,
            committed,
        } = interrupted;
        let started = found.events[0].time;
        let terminal = if committed {
            self.desired.write(&self.dirs.desired())?;
            self.record_secrets(release)?;
            if let Some(launch) = launch {
                self.finish(&found, &mut journal, &launch, previous).await;
            }
            let ms = self.since(started);
            Event::Succeeded {
                release: release.to_string(),
                ms,
                recovered: true,
            }
        } else {
            let step = last_begun(&found);
            if kind == Kind::Deploy {
                self.store(None)?
                    .remove(release)
                    .await
                    .map_err(StepError::Store)?;
                Meta::remove(&self.dirs, release)?;
            }
            self.shared.settled().await;
            let serving = self.serving();
            let message =
                "the daemon was interrupted, and undid the operation when it was started again";
            let error = Report {
                message: message.to_owned(),
                causes: vec![],
                hint: None,
                output: vec![],
            };
            Event::Failed {
                step,
                error,
                ms: self.since(started),
                serving,
            }
        };
        record(&mut journal, terminal, Durability::Synced).await;
        Ok(())
    }

    /// Steps 4j to 4m of an operation whose commit survived: the old instances are stopped already.
    async fn finish(
        &self,
        found: &Record,
        journal: &mut Journal,
        launch: &Arc<Launch>,
        previous: Option<ReleaseId>,
    ) {
        if let Err(error) = self.write_derived(launch) {
            tracing::error!(app = %self.name, %error, "could not write app.toml");
        }
        let planned = match &found.events[0].event {
            Event::Started { steps, .. } => steps.clone(),
            _ => Vec::new(),
        };
        if planned.contains(&Step::PostDeploy) && !found.has_begun(Step::PostDeploy) {
            self.post_deploy(journal, launch).await;
        }
        if planned.contains(&Step::Cleanup) {
            let protected: Vec<_> = previous.into_iter().chain([launch.release.id]).collect();
            if let Err(error) = self
                .cleanup(launch.manifest.deploy.keep_releases, &protected)
                .await
            {
                tracing::error!(app = %self.name, error = %error.report(), "could not remove old releases");
            }
        }
    }

    /// The hook that the crash cut off before it began. Its failure is recorded, like that of any other.
    async fn post_deploy(&self, journal: &mut Journal, launch: &Arc<Launch>) {
        let deploy = &launch.manifest.deploy;
        let Some(command) = &deploy.post_deploy else {
            return;
        };
        let step = Step::PostDeploy;
        if let Err(error) = journal
            .append(Event::StepStarted { step }, Durability::Synced)
            .await
        {
            // At most once: without the intent on disk it must not run.
            tracing::error!(app = %self.name, %error, "could not record that post_deploy begins");
            return;
        }
        let began = Instant::now();
        let run = HookRun {
            hook: Hook::PostDeploy,
            command,
            limit: deploy.hook_timeout,
            port: self.shared.status(self.stack.clock.now()).port.unwrap_or(0),
        };
        let (background, mut printed) = unbounded_channel();
        let run = run.run(launch, &background, std::future::pending());
        let result = recording(journal, &mut printed, run).await;
        let ms = millis(began);
        let ended = match result {
            Ok(()) => Event::StepFinished { step, ms },
            Err(error) => Event::StepFailed {
                step,
                ms,
                error: error.report(),
            },
        };
        record(journal, ended, Durability::Written).await;
    }

    fn since(&self, started: jiff::Timestamp) -> u64 {
        u64::try_from(self.stack.clock.now().duration_since(started).as_millis()).unwrap_or(0)
    }
}

/// At the daemon's start the table is empty: what an apply or a park replaces is nothing that a request uses.
fn drop_replaced(replaced: Option<vela_proxy::Replaced>) {
    if let Some(replaced) = replaced {
        tracing::warn!(route = %replaced.route(), "a route stood in the table before the start");
    }
}

fn last_begun(record: &Record) -> Option<Step> {
    record
        .events
        .iter()
        .rev()
        .find_map(|envelope| match envelope.event {
            Event::StepStarted { step } => Some(step),
            _ => None,
        })
}
