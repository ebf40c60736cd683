use std::fmt;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use tokio::time::timeout;
use uuid::Uuid;
use vela_cli::demo::load::LoadHandle;
use vela_control::EventStream;
use vela_protocol::{Envelope, Event, RollbackRequest, Step};

use crate::World;

/// No step of a test's deploys is silent for longer.
const SILENCE: Duration = Duration::from_secs(60);

/// A deploy under way, and the events that came so far.
pub struct Deploy {
    events: EventStream,
    seen: Vec<Envelope>,
}

impl Deploy {
    pub(crate) fn new(events: EventStream) -> Deploy {
        Deploy {
            events,
            seen: Vec::new(),
        }
    }

    /// Begins to go back to the release before the current one.
    pub async fn roll_back(world: &World, app: &str) -> Deploy {
        let request = RollbackRequest {
            deploy: Uuid::new_v4(),
            to: None,
            hooks: false,
            client: None,
        };
        Deploy::new(world.client().rollback(app, &request).await.unwrap())
    }

    /// The events so far.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.seen.iter().map(|envelope| &envelope.event)
    }

    /// Waits for an event that `wanted` takes something from.
    #[track_caller]
    pub fn until<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&Event) -> Option<T>,
    ) -> impl Future<Output = T> {
        let caller = std::panic::Location::caller();
        async move {
            if let Some(found) = self.events().find_map(&wanted) {
                return found;
            }
            loop {
                let next = timeout(SILENCE, self.events.next()).await;
                let Ok(Some(envelope)) = next else {
                    panic!("{caller}: {what} never came: {self:#?}");
                };
                let envelope = envelope.unwrap();
                let found = wanted(&envelope.event);
                self.seen.push(envelope);
                if let Some(found) = found {
                    return found;
                }
            }
        }
    }

    /// Waits until a step has begun.
    #[track_caller]
    pub fn reach(&mut self, step: Step) -> impl Future<Output = ()> {
        self.until(step.as_str(), move |event| {
            (*event == Event::StepStarted { step }).then_some(())
        })
    }

    /// Waits for the last event.
    #[track_caller]
    pub fn end(&mut self) -> impl Future<Output = Event> {
        self.until("the end", |event| {
            event.is_terminal().then(|| event.clone())
        })
    }

    /// Waits for a good end, and gives the new release.
    #[track_caller]
    pub fn succeed(&mut self) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            match self.end().await {
                Event::Succeeded { release, .. } => release,
                _ => panic!("{caller}: {self:#?}"),
            }
        }
    }

    /// When a step began.
    #[track_caller]
    pub fn began(&self, step: Step) -> SystemTime {
        let wanted = Event::StepStarted { step };
        let found = self.seen.iter().find(|envelope| envelope.event == wanted);
        let found = found.unwrap_or_else(|| panic!("{step} was not reached: {self:#?}"));
        found.time.into()
    }

    /// How long a step took.
    #[track_caller]
    pub fn took(&self, step: Step) -> Duration {
        let found = self.events().find_map(|event| match event {
            Event::StepFinished { step: ended, ms } if *ended == step => Some(*ms),
            _ => None,
        });
        Duration::from_millis(found.unwrap_or_else(|| panic!("{step} was not done: {self:#?}")))
    }

    /// Tells a load what happened when.
    pub fn tell(&self, load: &mut LoadHandle) {
        self.seen.iter().for_each(|envelope| load.observe(envelope));
    }
}

impl fmt::Debug for Deploy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.seen
                    .iter()
                    .map(|one| (one.time.to_string(), &one.event)),
            )
            .finish()
    }
}
