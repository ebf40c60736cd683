use std::time::Duration;

use futures::{StreamExt, stream};
use uuid::Uuid;
use vela_manifest::AppName;

use crate::engine::{Engine, Handle};
use crate::error::EngineError;
use crate::history::{self, Events, Record};

/// How soon to look again for an operation that is just being recorded.
const BEGINS_SOON: Duration = Duration::from_millis(10);

/// What is known of an operation.
pub(crate) enum Known {
    /// All its events, those to come included.
    Events(Events),
    /// It was accepted; its events can be followed in a moment.
    Begins,
    /// Nobody asked for it, or it is not accepted yet.
    Nothing,
}

impl Engine {
    /// The events of an operation of any app from the one numbered `from`; waits for one that is just being recorded.
    pub(crate) async fn follow(&self, deploy: Uuid, from: u64) -> Result<Events, EngineError> {
        loop {
            let mut begins = false;
            let apps = self.apps_locked().clone();
            for (name, handle) in &apps {
                match self.known(name, handle, deploy, from)? {
                    Known::Events(events) => return Ok(events),
                    Known::Begins => begins = true,
                    Known::Nothing => {}
                }
            }
            if !begins {
                return Err(EngineError::NoSuchDeploy { deploy });
            }
            Self::begins_soon().await;
        }
    }

    /// The events of an operation of this app from the one numbered `from`.
    pub(crate) fn known(
        &self,
        name: &AppName,
        handle: &Handle,
        deploy: Uuid,
        from: u64,
    ) -> Result<Known, EngineError> {
        look(
            from,
            || Some(self.inner.common.feed(deploy)?.events(from)),
            || handle.shared.is_begun_by(deploy),
            || self.recorded(name, deploy),
        )
    }

    /// Whether the operation has left a trace. Nothing does so without the claim to the app.
    pub(crate) fn was_begun(&self, name: &AppName, deploy: Uuid) -> Result<bool, EngineError> {
        Ok(self.inner.common.feed(deploy).is_some() || self.recorded(name, deploy)?.is_some())
    }

    /// Passes the moment until an operation that was accepted can be followed.
    pub(crate) async fn begins_soon() {
        tokio::time::sleep(BEGINS_SOON).await;
    }

    /// An operation as its history has it.
    fn recorded(&self, name: &AppName, deploy: Uuid) -> Result<Option<Record>, EngineError> {
        let history = self.inner.stack.dirs.app(name).history();
        Ok(history::find(&history, deploy)?)
    }
}

/// Finds the events of an operation that goes on meanwhile. It holds its app, then its record appears, then its feed;
/// then it gives the app back, its record becomes whole, and its feed goes.
///
/// So a record without an end is all there is only of an operation that a crash cut off; of any other it is a part,
/// and who got it would never hear of the end.
fn look(
    from: u64,
    feed: impl Fn() -> Option<Events>,
    is_held: impl Fn() -> bool,
    record: impl Fn() -> Result<Option<Record>, EngineError>,
) -> Result<Known, EngineError> {
    if let Some(events) = feed() {
        return Ok(Known::Events(events));
    }
    let before = record()?;
    if let Some(ended) = before.as_ref().filter(|record| record.is_ended()) {
        return Ok(Known::Events(replay(ended.clone(), from)));
    }
    // The feed after the hold: it is there before the app is given back.
    let is_held = is_held();
    if let Some(events) = feed() {
        return Ok(Known::Events(events));
    }
    if is_held {
        return Ok(Known::Begins);
    }
    // If it had begun, it is over by now, and its record will not change any more.
    Ok(match (before, record()?) {
        (_, None) => Known::Nothing,
        (Some(_), Some(record)) => Known::Events(replay(record, from)),
        (None, Some(_)) => Known::Begins,
    })
}

/// The events of a record from the one numbered `from`; its end in any case.
fn replay(record: Record, from: u64) -> Events {
    let events = record.events.into_iter();
    stream::iter(
        events.filter(move |envelope| envelope.seq >= from || envelope.event.is_terminal()),
    )
    .boxed()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::{Path, PathBuf};
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt;
    use jiff::Timestamp;
    use vela_protocol::{Envelope, Event, Operation, VERSION, Who};
    use vela_proxy::{Proxy, ProxyConfig};
    use vela_supervisor::{InProcess, Ports};

    use super::*;
    use crate::accept::Claimed;
    use crate::clock::{Clock, SystemClock};
    use crate::dirs::Dirs;
    use crate::journal::{Durability, Journal};
    use crate::stack::Stack;

    const ID: &str = "20260305-143022";

    fn who() -> Who {
        Who {
            uid: Some(0),
            user: "root".into(),
            client: None,
        }
    }

    fn started() -> Event {
        Event::Started {
            app: "tiny".into(),
            operation: Operation::Restart,
            release: ID.into(),
            previous: None,
            strategy: "blue-green".into(),
            by: who(),
            steps: vec![],
            git: None,
            message: None,
        }
    }

    fn succeeded() -> Event {
        Event::Succeeded {
            release: ID.into(),
            ms: 1,
            recovered: false,
        }
    }

    fn envelopes(events: impl IntoIterator<Item = Event>) -> Vec<Envelope> {
        let envelope = |(seq, event)| Envelope {
            v: VERSION,
            seq,
            time: Timestamp::UNIX_EPOCH,
            deploy: Uuid::nil(),
            event,
        };
        (0..).zip(events).map(envelope).collect()
    }

    fn record(events: impl IntoIterator<Item = Event>) -> Record {
        Record {
            id: ID.into(),
            path: PathBuf::new(),
            events: envelopes(events),
            whole_bytes: 0,
        }
    }

    /// How far an operation is, in the order that the engine goes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Stage {
        Unknown,
        Held,
        Recorded,
        Followed,
        GivenBack,
        Whole,
        Over,
    }

    const STAGES: [Stage; 7] = [
        Stage::Unknown,
        Stage::Held,
        Stage::Recorded,
        Stage::Followed,
        Stage::GivenBack,
        Stage::Whole,
        Stage::Over,
    ];

    impl Stage {
        fn feed(self) -> Option<Events> {
            let followed = Stage::Followed <= self && self < Stage::Over;
            followed.then(|| stream::iter(envelopes([started(), succeeded()])).boxed())
        }

        fn is_held(self) -> bool {
            Stage::Held <= self && self < Stage::GivenBack
        }

        fn record(self) -> Option<Record> {
            match self {
                Stage::Unknown | Stage::Held => None,
                Stage::Recorded | Stage::Followed | Stage::GivenBack => Some(record([started()])),
                Stage::Whole | Stage::Over => Some(record([started(), succeeded()])),
            }
        }
    }

    /// Every way in which an operation can go on between the five looks at it.
    fn schedules() -> Vec<Vec<Stage>> {
        (0..5).fold(vec![vec![]], |schedules, _| {
            let longer = |schedule: Vec<Stage>| {
                let from = schedule.last().copied().unwrap_or(Stage::Unknown);
                let to = STAGES.into_iter().filter(move |stage| *stage >= from);
                to.map(move |stage| [schedule.as_slice(), &[stage]].concat())
            };
            schedules.into_iter().flat_map(longer).collect()
        })
    }

    #[test]
    fn however_an_operation_goes_on_meanwhile_its_end_is_not_lost() {
        let schedules = schedules();
        assert_eq!(schedules.len(), 462);
        for schedule in schedules {
            let looks = Cell::new(0);
            let stage = || schedule[looks.replace(looks.get() + 1)];
            let known = look(
                0,
                || stage().feed(),
                || stage().is_held(),
                || Ok(stage().record()),
            );
            let last = schedule[looks.get() - 1];
            match known.unwrap() {
                Known::Events(events) => {
                    let count = events.count().now_or_never();
                    assert_eq!(count, Some(2), "{schedule:?}");
                }
                Known::Begins => assert!(last > Stage::Unknown, "{schedule:?}"),
                Known::Nothing => {
                    assert!(schedule[2] == Stage::Unknown, "{schedule:?}");
                    assert!(last < Stage::Recorded, "{schedule:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_crash_cut_off_is_all_there_is() {
        let known = look(0, || None, || false, || Ok(Some(record([started()])))).unwrap();
        let Known::Events(events) = known else {
            panic!("its events are known");
        };
        assert_eq!(events.count().now_or_never(), Some(1));
    }

    #[test]
    fn a_replay_has_the_end_whatever_was_seen() {
        let events = replay(record([started(), succeeded()]), 7);
        let seqs = events.map(|envelope| envelope.seq).collect::<Vec<_>>();
        assert_eq!(seqs.now_or_never(), Some(vec![1]));
    }

    async fn engine(dir: &Path, clock: impl Clock + 'static) -> Engine {
        let proxy = Proxy::new(ProxyConfig {
            workers: 1.try_into().unwrap(),
            ..ProxyConfig::default()
        });
        let supervisor = Arc::new(InProcess::new());
        let ports = Ports::new(10000..=20000);
        let stack = Stack {
            clock: Arc::new(clock),
            ..Stack::local(Dirs::new(dir), supervisor, ports, proxy)
        };
        Engine::open(stack).await.unwrap()
    }

    #[tokio::test]
    async fn who_asks_while_an_operation_is_recorded_gets_all_its_events() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path(), SystemClock).await;
        let (name, deploy) = ("tiny".parse().unwrap(), Uuid::new_v4());
        let handle = engine.handle_of(&name);
        let kind = Operation::Restart;
        let claim = engine.try_claim(&handle, kind, deploy, &who()).unwrap();
        let claim = claim.unwrap();
        let by = who();
        let mut attached = pin!(engine.attach(deploy, 0));
        let mut asked = pin!(engine.claim(&name, &handle, kind, deploy, &by));
        assert!(attached.as_mut().now_or_never().is_none());
        assert!(asked.as_mut().now_or_never().is_none());

        let history = engine.inner.stack.dirs.app(&name).history();
        let created = Journal::create(&history, ID, deploy, Arc::new(SystemClock)).await;
        let mut journal = created.unwrap();
        journal.append(started(), Durability::Synced).await.unwrap();
        let mut late = pin!(engine.attach(deploy, 0));
        assert!(late.as_mut().now_or_never().is_none());

        engine.inner.common.publish(deploy, journal.feed());
        let (attached, late) = (attached.await.unwrap(), late.await.unwrap());
        let Claimed::Known(asked) = asked.await.unwrap() else {
            panic!("the operation was claimed twice");
        };
        drop(claim);
        let end = journal.append(succeeded(), Durability::Synced).await;
        end.unwrap();
        for events in [attached, late, asked] {
            assert_eq!(events.count().await, 2);
        }
    }

    #[tokio::test]
    async fn a_stop_has_no_events_to_wait_for() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path(), SystemClock).await;
        let (name, id) = ("tiny".parse().unwrap(), Uuid::new_v4());
        let handle = engine.handle_of(&name);
        let claim = engine.try_claim(&handle, Operation::Stop, id, &who());
        let _claim = claim.unwrap().unwrap();
        assert!(matches!(
            engine.attach(id, 0).now_or_never(),
            Some(Err(EngineError::NoSuchDeploy { .. }))
        ));
    }

    /// Does an operation from its begin to its end at the first look at the clock, which is when an app is claimed.
    #[derive(Debug)]
    struct DoneMeanwhile {
        history: PathBuf,
        done: AtomicBool,
    }

    impl Clock for DoneMeanwhile {
        fn now(&self) -> Timestamp {
            if !self.done.swap(true, Ordering::SeqCst) {
                let lines: String = envelopes([started(), succeeded()])
                    .iter()
                    .map(|envelope| serde_json::to_string(envelope).unwrap() + "\n")
                    .collect();
                std::fs::create_dir_all(&self.history).unwrap();
                std::fs::write(self.history.join(format!("{ID}.jsonl")), lines).unwrap();
            }
            Timestamp::UNIX_EPOCH
        }
    }

    #[tokio::test]
    async fn what_was_done_since_it_was_looked_for_is_not_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let name = "tiny".parse().unwrap();
        let clock = DoneMeanwhile {
            history: Dirs::new(dir.path()).app(&name).history(),
            done: AtomicBool::new(false),
        };
        let engine = engine(dir.path(), clock).await;
        let handle = engine.handle_of(&name);
        let claimed = engine
            .claim(&name, &handle, Operation::Restart, Uuid::nil(), &who())
            .await;
        let Claimed::Known(events) = claimed.unwrap() else {
            panic!("the operation was claimed again");
        };
        assert_eq!(events.count().await, 2);
    }
}
