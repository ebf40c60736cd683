use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vela_protocol::Event;
use vela_proxy::{DrainLimits, Replaced, RouteError};
use vela_supervisor::{Backoff, Exit, InstanceEvent, InstanceId};

use crate::launch::{Launch, Running, StopPermit, next_exit};
use crate::shared::{Health, Shared};
use crate::step_error::StepError;

/// A crash that is followed by a start sooner than this is hidden from clients by parking the route; in a longer
/// one they get a 503 at once.
const WORTH_PARKING: Duration = Duration::from_secs(1);

/// Keeps the instances of one release running and routed: started again when they die, with growing pauses.
///
/// It is the task that acts between two operations of an app; an operation that changes the route retires it first.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) launch: Arc<Launch>,
    retire: oneshot::Sender<Unproven>,
    task: JoinHandle<Vec<Running>>,
}

/// What becomes of an instance that has not yet proved healthy when its keeping ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unproven {
    /// Nothing needs it: what comes next brings its own.
    Stop,
    /// The next daemon adopts it.
    Leave,
}

/// What a keeper begins with.
#[derive(Debug)]
pub(crate) enum Begin {
    /// Instances that are healthy and routed.
    Routed(Vec<Running>),
    /// Instances, perhaps none, that outlived the last daemon: routed when they prove healthy.
    Adopted(Vec<Running>),
}

impl Keeper {
    pub(crate) fn spawn(launch: Arc<Launch>, begin: Begin, shared: Arc<Shared>) -> Keeper {
        let (retire, retired) = oneshot::channel();
        let events = launch.stack.supervisor.watch();
        let keep = Keep {
            launch: Arc::clone(&launch),
            shared,
            running: Vec::new(),
            healthy_since: None,
            backoff: Backoff::new(),
        };
        let task = tokio::spawn(keep.run(begin, events, retired));
        Keeper {
            launch,
            retire,
            task,
        }
    }

    /// Ends the keeping and gives the instances that run; they are no longer started again. An instance that has not
    /// yet proved healthy is stopped.
    pub(crate) async fn retire(self) -> Vec<Running> {
        self.end(Unproven::Stop).await
    }

    /// Ends the keeping with the daemon: every instance goes on, for the next daemon to adopt.
    pub(crate) async fn leave(self) {
        self.end(Unproven::Leave).await;
    }

    async fn end(self, unproven: Unproven) -> Vec<Running> {
        // The task ends by itself only when it panicked, which the join below tells.
        if self.retire.send(unproven).is_err() {
            tracing::error!(app = %self.launch.app, "the keeper had ended by itself");
        }
        self.task.await.unwrap_or_else(|error| {
            tracing::error!(app = %self.launch.app, %error, "the keeper failed");
            Vec::new()
        })
    }
}

struct Keep {
    launch: Arc<Launch>,
    shared: Arc<Shared>,
    running: Vec<Running>,
    healthy_since: Option<Instant>,
    backoff: Backoff,
}

impl Keep {
    async fn run(
        mut self,
        begin: Begin,
        mut events: BoxStream<'static, InstanceEvent>,
        mut retired: oneshot::Receiver<Unproven>,
    ) -> Vec<Running> {
        let mut delay = Duration::ZERO;
        match begin {
            Begin::Routed(running) => {
                self.running = running;
                self.healthy_since = Some(Instant::now());
                delay = self.drop_the_dead().await;
            }
            Begin::Adopted(running) => {
                for one in running {
                    if self.bring_up(Some(one), &mut retired).await.is_retired() {
                        return self.running;
                    }
                }
            }
        }
        let wanted = self.launch.manifest.deploy.instances as usize;
        loop {
            while self.running.len() < wanted {
                self.report(if delay > Duration::ZERO {
                    Health::Crashing
                } else {
                    Health::Starting
                });
                tokio::select! {
                    _ = &mut retired => return self.running,
                    () = tokio::time::sleep(delay) => {}
                }
                match self.bring_up(None, &mut retired).await {
                    BroughtUp::Healthy => delay = Duration::ZERO,
                    BroughtUp::Retired => return self.running,
                    BroughtUp::Failed => delay = self.after_crash(Duration::ZERO).await,
                }
            }
            self.report(Health::Healthy);
            let (id, exit) = tokio::select! {
                _ = &mut retired => return self.running,
                ended = next_exit(&mut events, |id| self.running.iter().any(|one| one.instance.id == *id)) => ended,
            };
            delay = self.ended(&id, exit).await;
        }
    }

    /// Starts an instance, or takes an adopted one, and routes to it once it is healthy.
    async fn bring_up(
        &mut self,
        adopted: Option<Running>,
        retired: &mut oneshot::Receiver<Unproven>,
    ) -> BroughtUp {
        let launch = Arc::clone(&self.launch);
        let started = match adopted {
            Some(running) => Ok(running),
            None => match launch.stack.ports.reserve().map_err(StepError::Port) {
                Ok(lease) => launch.start(lease).await,
                Err(error) => Err(error),
            },
        };
        let mut running = match started {
            Ok(running) => running,
            Err(error) => return self.failed(&error),
        };
        let settled = tokio::select! {
            settled = launch.settle(&mut running, None) => settled,
            unproven = &mut *retired => {
                if unproven != Ok(Unproven::Leave) {
                    self.discard(&running).await;
                }
                return BroughtUp::Retired;
            }
        };
        if let Err(error) = settled {
            self.discard(&running).await;
            return self.failed(&error);
        }
        self.running.push(running);
        self.healthy_since = Some(Instant::now());
        match self.launch.serve(&self.running).await {
            Ok(replaced) => self.close(replaced).await,
            Err(error) => {
                tracing::error!(app = %self.launch.app, %error, "could not route to the instance")
            }
        }
        BroughtUp::Healthy
    }

    fn failed(&self, error: &StepError) -> BroughtUp {
        tracing::warn!(app = %self.launch.app, error = %error.report(), "the app could not be started");
        BroughtUp::Failed
    }

    async fn discard(&self, running: &Running) {
        if let Err(error) = self.launch.stop([running], StopPermit::NeverRouted).await {
            tracing::warn!(app = %self.launch.app, error = %error.report(), "could not stop an instance");
        }
    }

    /// An instance died: tells, unroutes it, and gives the time to wait before the next start.
    async fn ended(&mut self, id: &InstanceId, exit: Exit) -> Duration {
        tracing::warn!(app = %self.launch.app, instance = %id, exit = %exit.status, "an instance died");
        let died = self.running.extract_if(.., |one| one.instance.id == *id);
        died.for_each(|one| self.launch.forget(&one));
        // Before it counts: whoever sees the restart must not see the health of before.
        self.report(Health::Starting);
        self.shared.count_restart();
        self.shared.observe(Event::InstanceRestarted {
            instance: id.to_string(),
            exit: exit.status.to_string(),
        });
        let healthy_for = self
            .healthy_since
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        self.after_crash(healthy_for).await
    }

    async fn after_crash(&mut self, healthy_for: Duration) -> Duration {
        let delay = self.backoff.crashed(healthy_for);
        let stack = &self.launch.stack;
        let park = stack
            .park
            .as_ref()
            .filter(|_| self.running.is_empty() && delay < WORTH_PARKING);
        let unrouted: Result<Option<Replaced>, RouteError> = match park {
            Some(park) => self.launch.park(&**park).await,
            None => self.launch.serve(&self.running).await,
        };
        match unrouted {
            Ok(replaced) => self.close(replaced).await,
            Err(error) => {
                tracing::error!(app = %self.launch.app, %error, "could not unroute a dead instance")
            }
        }
        delay
    }

    /// What was replaced here is a dead instance, or the same instances in another set: nothing is stopped after
    /// it, so there is nothing to wait for.
    async fn close(&self, replaced: Option<Replaced>) {
        if let Some(replaced) = replaced {
            let drained = self
                .launch
                .stack
                .router
                .drain(replaced, DrainLimits::NONE)
                .await;
            tracing::debug!(app = %self.launch.app, left = drained.left, "closed a replaced route");
        }
    }

    /// Unroutes instances that died before the watch began; gives the time to wait before the next start.
    async fn drop_the_dead(&mut self) -> Duration {
        let alive = match self.launch.stack.supervisor.list().await {
            Ok(alive) => alive,
            Err(error) => {
                tracing::error!(app = %self.launch.app, %error, "could not list the instances");
                return Duration::ZERO;
            }
        };
        let before = self.running.len();
        self.running
            .retain(|one| alive.iter().any(|live| live.id == one.instance.id));
        match self.running.len() == before {
            true => Duration::ZERO,
            false => self.after_crash(Duration::ZERO).await,
        }
    }

    fn report(&self, health: Health) {
        self.shared
            .set_instances(&self.launch, &self.running, health);
    }
}

enum BroughtUp {
    Healthy,
    Failed,
    Retired,
}

impl BroughtUp {
    fn is_retired(&self) -> bool {
        matches!(self, BroughtUp::Retired)
    }
}
