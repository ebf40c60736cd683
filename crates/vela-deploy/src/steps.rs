//! What each step does. How it is recorded and what its failure leads to is the same for all: `operation.rs`.

use std::sync::Arc;
use std::time::Instant;

use vela_protocol::{Event, Hook, Step};
use vela_supervisor::PortLease;

use crate::desired::Desired;
use crate::failpoint::Moment;
use crate::hook::HookRun;
use crate::journal::recording;
use crate::keeper::Begin;
use crate::launch::{Launch, StopPermit};
use crate::meta::Meta;
use crate::operation::{Operation, What};
use crate::shared::Health;
use crate::step_error::StepError;

impl Operation<'_> {
    pub(crate) async fn do_step(&mut self, step: Step) -> Result<(), StepError> {
        self.fail_at(step, Moment::Before)?;
        match step {
            Step::Build => self.build().await?,
            Step::Unpack => self.unpack().await?,
            Step::Register => self.register()?,
            Step::Provision => self.provision().await?,
            Step::PreStart => self.hook(Hook::PreStart).await?,
            Step::Park => self.park().await?,
            Step::StopFirst => self.stop_first().await?,
            Step::Start => self.start().await?,
            Step::Health => self.health().await?,
            Step::PreSwitch => self.hook(Hook::PreSwitch).await?,
            Step::Switch => self.switch().await?,
            Step::Commit => self.commit().await?,
            Step::Drain => {
                self.drain().await;
                self.fail_at(step, Moment::Inside)?;
            }
            Step::Stop => self.stop().await?,
            Step::Certify => self.certify().await?,
            Step::PostDeploy => self.hook(Hook::PostDeploy).await?,
            Step::Cleanup => self.cleanup().await?,
            // The enum may grow in the protocol; a plan holds only what stands above.
            _ => {}
        }
        self.fail_at(step, Moment::After)
    }

    async fn unpack(&mut self) -> Result<(), StepError> {
        let Some(artifact) = self.artifact().cloned() else {
            return Ok(());
        };
        let user = self.app.prepare(&self.request.manifest).await?;
        let store = self.app.store(user.as_ref())?;
        let release = store
            .stage(self.id, &artifact)
            .await
            .map_err(StepError::Store)?;
        if let Some(built) = &self.built {
            built.forget_file();
        }
        self.fail_at(Step::Unpack, Moment::Inside)?;
        let binary = self.request.manifest.deploy.binary.as_path();
        vela_release::entrypoint(&release.path, binary)
            .map(drop)
            .map_err(StepError::Entrypoint)
    }

    fn register(&mut self) -> Result<(), StepError> {
        let (What::Deploy { git, message, .. }, Some(artifact)) =
            (&self.request.what, self.artifact())
        else {
            return Ok(());
        };
        let meta = Meta {
            operation: self.id.to_string(),
            created: self.app.stack.clock.now(),
            strategy: self.request.manifest.deploy.strategy.to_string(),
            sha256: artifact.sha256.to_string(),
            size: artifact.size,
            secrets: self.request.secrets,
            git: git.clone(),
            message: message.clone(),
            by: self.request.who.clone(),
        };
        meta.create(&self.app.dirs, self.id, self.request.manifest.source())?;
        self.fail_at(Step::Register, Moment::Inside)
    }

    async fn provision(&mut self) -> Result<(), StepError> {
        let launch = self.launch().await?;
        let cancelled = self.claim.cancellation();
        tokio::select! {
            provisioned = launch.services() => provisioned.map(drop)?,
            () = cancelled => return Err(StepError::Cancelled),
        }
        self.fail_at(Step::Provision, Moment::Inside)
    }

    /// Holds the requests; the keeper is retired, so that nothing starts the old release meanwhile.
    async fn park(&mut self) -> Result<(), StepError> {
        self.seal().await?;
        self.launch().await?.read_error_pages()?;
        self.reserved_port()?;
        let Some(old) = self.app.take_old().await else {
            return Ok(());
        };
        let launch = Arc::clone(&old.launch);
        self.old = Some(old);
        let park = self
            .app
            .stack
            .park
            .as_ref()
            .expect("an operation that parks is refused without a Park");
        self.replaced = launch.park(&**park).await.map_err(StepError::Route)?;
        self.fail_at(Step::Park, Moment::Inside)
    }

    /// `sequential`: no request is cut off here either.
    async fn stop_first(&mut self) -> Result<(), StepError> {
        self.stop().await?;
        self.fail_at(Step::StopFirst, Moment::Inside)
    }

    async fn start(&mut self) -> Result<(), StepError> {
        let launch = self.launch().await?;
        self.seal().await?;
        launch.read_error_pages()?;
        for _ in 0..launch.manifest.deploy.instances {
            let lease = self.lease()?;
            let running = launch.start(lease).await?;
            self.record(running.started()).await;
            self.new.push(running);
            self.fail_at(Step::Start, Moment::Inside)?;
        }
        Ok(())
    }

    async fn health(&mut self) -> Result<(), StepError> {
        let launch = self.launch().await?;
        let cancelled = self.claim.cancellation();
        let (background, new) = (self.background.clone(), &mut self.new);
        let settle = async {
            for running in new {
                launch.settle(running, Some(&background)).await?;
            }
            Ok(())
        };
        let settled = async {
            tokio::select! {
                settled = settle => settled,
                () = cancelled => Err(StepError::Cancelled),
            }
        };
        recording(&mut self.journal, &mut self.from_background, settled).await?;
        self.fail_at(Step::Health, Moment::Inside)
    }

    async fn switch(&mut self) -> Result<(), StepError> {
        let launch = self.launch().await?;
        if self.old.is_none() {
            self.old = self.app.take_old().await;
        }
        self.require_alive(&launch).await?;
        let replaced = launch.serve(&self.new).await.map_err(StepError::Route)?;
        self.switched = true;
        if let Some(replaced) = replaced {
            self.replaced = Some(replaced);
        }
        self.fail_at(Step::Switch, Moment::Inside)
    }

    /// The commit point: the link for a new release, `desired.toml` for new instances of the same one.
    async fn commit(&mut self) -> Result<(), StepError> {
        let launch = self.launch().await?;
        self.require_alive(&launch).await?;
        let desired = Desired {
            running: true,
            secrets: self.request.secrets,
            operation: Some(self.id.to_string()),
            ..self.app.desired.clone()
        };
        if let What::Restart { .. } = self.request.what {
            if let Err(error) = desired.write(&self.app.dirs.desired()) {
                // What the file says decides, whatever the call said.
                let written = Desired::read(&self.app.dirs.desired())?;
                if written.operation != desired.operation {
                    return Err(error.into());
                }
            }
        } else {
            let store = self.app.store(launch.user.as_ref())?;
            if let Err(error) = store.activate(self.release).await {
                // What the link says decides, whatever the call said.
                let releases = store.list().await.map_err(StepError::Store)?;
                if releases.current != Some(self.release) {
                    return Err(StepError::Store(error));
                }
            }
        }
        self.committed = true;
        self.app.want_certificate(&launch.manifest);
        self.certified_since = Some(Instant::now());
        // From here on nothing is undone: what fails is made good by the next start of the daemon.
        if let Err(error) = self.after_commit(&launch, desired).await {
            tracing::error!(app = %self.app.name, error = %error.report(), "the commit left work for recovery");
        }
        let new = std::mem::take(&mut self.new);
        self.kept_port = new.first().map(|running| running.lease.port());
        self.app.keep(launch, Begin::Routed(new));
        self.fail_at(Step::Commit, Moment::Inside)
    }

    async fn after_commit(&mut self, launch: &Launch, desired: Desired) -> Result<(), StepError> {
        self.app.desired = desired;
        self.app.desired.write(&self.app.dirs.desired())?;
        self.app.record_secrets(self.release)?;
        self.app.write_derived(launch)?;
        Ok(())
    }

    /// Waits for the requests of the old instances. Kept, with the permit to stop them, for the next step.
    async fn drain(&mut self) {
        let Some(old) = &self.old else { return };
        if let Some(replaced) = self.replaced.take() {
            let mut limits = old.patience();
            if self.steps.contains(&Step::Park) {
                // Requests are held meanwhile: what may go on for hours must not prolong the gap. The instance is told to
                // stop right after, and takes leave of its clients by itself.
                limits.streams = vela_proxy::StreamDrain::Leave;
            }
            let drain = old.drain(Some(replaced), limits);
            let permit = recording(&mut self.journal, &mut self.from_background, drain).await;
            if let StopPermit::Drained(drained) = &permit {
                let event = Event::Drained { left: drained.left };
                self.record(event).await;
            }
            self.permit = Some(permit);
        }
    }

    async fn stop(&mut self) -> Result<(), StepError> {
        // Whatever came before: nothing is stopped that still has a route to drain.
        self.drain().await;
        let Some(old) = &mut self.old else {
            return Ok(());
        };
        // Nothing was drained because nothing was routed.
        let permit = self.permit.take().unwrap_or(StopPermit::NeverRouted);
        let running = std::mem::take(&mut old.running);
        let stopped = old.launch.stop(&running, permit).await;
        if stopped.is_err() {
            old.running = running;
        } else if self.app.keeper.is_none() {
            // Sequential: nothing runs until the new instance does.
            self.app
                .shared
                .set_instances(&old.launch, &[], Health::Starting);
        }
        for (id, exit) in stopped? {
            let exit = exit.status.to_string();
            self.record(Event::InstanceStopped {
                instance: id.to_string(),
                exit,
            })
            .await;
        }
        self.fail_at(Step::Stop, Moment::Inside)
    }

    async fn cleanup(&mut self) -> Result<(), StepError> {
        let keep = self.request.manifest.deploy.keep_releases;
        let protected: Vec<_> = self.previous.into_iter().chain([self.release]).collect();
        self.app.cleanup(keep, &protected).await?;
        self.fail_at(Step::Cleanup, Moment::Inside)
    }

    async fn hook(&mut self, hook: Hook) -> Result<(), StepError> {
        let deploy = &self.request.manifest.deploy;
        let (step, command) = match hook {
            Hook::PreStart => (Step::PreStart, &deploy.pre_start),
            Hook::PreSwitch => (Step::PreSwitch, &deploy.pre_switch),
            _ => (Step::PostDeploy, &deploy.post_deploy),
        };
        let (Some(command), limit) = (command.clone(), deploy.hook_timeout) else {
            return Ok(());
        };
        let launch = self.launch().await?;
        let running = self.new.first().map(|running| running.lease.port());
        let port = match running.or(self.kept_port) {
            Some(port) => port,
            None => self.reserved_port()?,
        };
        let run = HookRun {
            hook,
            command: &command,
            limit,
            port,
        };
        let cancellation = self.claim.cancellation();
        let cancelled = async {
            match step.is_undoable() {
                true => cancellation.await,
                false => std::future::pending().await,
            }
        };
        let run = run.run(&launch, &self.background, cancelled);
        recording(&mut self.journal, &mut self.from_background, run).await?;
        self.fail_at(step, Moment::Inside)
    }

    /// Makes the new release read-only: a hook may have written into it, the app may not. Before the gap of a
    /// sequential deploy, for it takes time and may fail.
    async fn seal(&mut self) -> Result<(), StepError> {
        if matches!(self.request.what, What::Deploy { .. }) && !self.sealed {
            let launch = self.launch().await?;
            let store = self.app.store(launch.user.as_ref())?;
            store.seal(self.release).await.map_err(StepError::Store)?;
            self.sealed = true;
        }
        Ok(())
    }

    /// What starts the new instances, made once.
    async fn launch(&mut self) -> Result<Arc<Launch>, StepError> {
        if let Some(launch) = &self.launch {
            return Ok(Arc::clone(launch));
        }
        let manifest = Arc::clone(&self.request.manifest);
        let launch = self
            .app
            .launch(
                self.release,
                manifest,
                &self.id.to_string(),
                self.request.secrets,
            )
            .await?;
        Ok(Arc::clone(self.launch.insert(launch)))
    }

    /// A port for the next instance: the one that `pre_start` was told, if it ran.
    fn lease(&mut self) -> Result<PortLease, StepError> {
        match self.leases.pop_front() {
            Some(lease) => Ok(lease),
            None => self.app.stack.ports.reserve().map_err(StepError::Port),
        }
    }

    fn reserved_port(&mut self) -> Result<u16, StepError> {
        if self.leases.is_empty() {
            let lease = self.app.stack.ports.reserve().map_err(StepError::Port)?;
            self.leases.push_back(lease);
        }
        Ok(self.leases[0].port())
    }

    async fn require_alive(&self, launch: &Launch) -> Result<(), StepError> {
        let alive = self
            .app
            .stack
            .supervisor
            .list()
            .await
            .map_err(StepError::Start)?;
        match self
            .new
            .iter()
            .find(|one| !alive.iter().any(|live| live.id == one.instance.id))
        {
            None => Ok(()),
            Some(dead) => {
                let exit = launch.exit_of(&dead.instance.id).await.await;
                Err(StepError::Died {
                    status: exit.status,
                    output: launch.last_output(&dead.instance.id),
                })
            }
        }
    }

    /// Where tests make the step fail or the daemon die; nothing without the feature `test-util`.
    fn fail_at(&self, step: Step, moment: Moment) -> Result<(), StepError> {
        self.app.stack.hit(step, moment)
    }
}
