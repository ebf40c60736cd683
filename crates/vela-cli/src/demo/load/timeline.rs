use std::time::Duration;

use jiff::Timestamp;
use vela_protocol::{Envelope, Event, Serving, Step};

/// What holds from some moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// Only these releases may answer.
    Serves(Vec<String>),
    /// The instances of this release are being told to stop, so that their WebSockets may end.
    Stops(String),
    /// No answers are owed: the old release is stopped and the new one not yet up.
    GapBegins,
    /// Answers are owed again.
    GapEnds,
}

/// Every mark with its time by the daemon's clock, which is this machine's.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    marks: Vec<(Timestamp, Mark)>,
    operation: Operation,
}

/// What is known of the operation whose events are coming in.
#[derive(Debug, Default)]
struct Operation {
    previous: Option<String>,
    release: String,
    switching: bool,
}

/// The marks on the clock of a recording, and the questions they answer.
#[derive(Debug)]
pub(super) struct Rules {
    serves: Vec<(Duration, Vec<String>)>,
    stops: Vec<(Duration, String)>,
    pub(super) gaps: Vec<(Duration, Duration)>,
}

impl Timeline {
    pub(super) fn mark(&mut self, at: Timestamp, mark: Mark) {
        self.marks.push((at, mark));
    }

    pub(super) fn observe(&mut self, envelope: &Envelope) {
        let at = envelope.time;
        match &envelope.event {
            Event::Started {
                release, previous, ..
            } => {
                self.operation = Operation {
                    previous: previous.clone(),
                    release: release.clone(),
                    switching: false,
                }
            }
            Event::StepStarted { step: Step::Park } => self.mark(at, Mark::GapBegins),
            Event::StepStarted {
                step: Step::StopFirst | Step::Stop,
            } => {
                let previous = self.operation.previous.clone();
                self.marks
                    .extend(previous.map(|old| (at, Mark::Stops(old))));
            }
            Event::StepStarted { step: Step::Switch } => {
                self.operation.switching = true;
                self.mark(at, self.either());
            }
            Event::StepFinished {
                step: Step::Switch, ..
            } => {
                let new = self.operation.release.clone();
                self.mark(at, Mark::Serves(vec![new]));
                self.mark(at, Mark::GapEnds);
            }
            // Traffic had been switched and goes back, while the new instances are drained and stopped.
            Event::StepFailed { step, .. } if step.is_undoable() && self.operation.switching => {
                self.mark(at, self.either());
                self.mark(at, Mark::Stops(self.operation.release.clone()));
            }
            Event::StepUndone {
                step: Step::Park, ..
            } => self.mark(at, Mark::GapEnds),
            Event::Failed { serving, .. } | Event::Cancelled { serving, .. } => {
                if let Serving::Previous { release } = serving {
                    self.mark(at, Mark::Serves(vec![release.clone()]));
                }
                self.mark(at, Mark::GapEnds);
            }
            _ => {}
        }
    }

    /// The marks, in order, on a clock that began at `begin` and was read last at `end`.
    pub(super) fn rules(&self, begin: Timestamp, end: Duration) -> Rules {
        let mut marks = self.marks.clone();
        marks.sort_by_key(|(at, _)| *at);
        let (mut serves, mut stops, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        let mut gap = None;
        for (at, mark) in marks {
            // A mark from before the beginning holds from the beginning.
            let at = Duration::try_from(at.duration_since(begin)).unwrap_or_default();
            match mark {
                Mark::Serves(releases) => serves.push((at, releases)),
                Mark::Stops(release) => stops.push((at, release)),
                Mark::GapBegins => gap = gap.or(Some(at)),
                Mark::GapEnds => gaps.extend(gap.take().map(|from| (from, at))),
            }
        }
        gaps.extend(gap.map(|from| (from, end)));
        Rules {
            serves,
            stops,
            gaps,
        }
    }

    fn either(&self) -> Mark {
        let old = self.operation.previous.clone();
        Mark::Serves(
            old.into_iter()
                .chain([self.operation.release.clone()])
                .collect(),
        )
    }
}

impl Rules {
    /// Whether `release` may answer a request that was sent and answered at these times: it must have been allowed
    /// at some moment between. Before the first mark everything is.
    pub(super) fn allows(&self, release: Option<&str>, sent: Duration, done: Duration) -> bool {
        let in_force = self.serves.partition_point(|(at, _)| *at <= sent);
        let until = self.serves.partition_point(|(at, _)| *at <= done);
        let Some(first) = in_force.checked_sub(1) else {
            return true;
        };
        let mut allowed = self.serves[first..until].iter();
        allowed.any(|(_, names)| names.iter().any(|name| Some(name.as_str()) == release))
    }

    /// Whether the instances of `release` began to be stopped between these times.
    pub(super) fn stopped(&self, release: &str, opened: Duration, ended: Duration) -> bool {
        self.stops
            .iter()
            .any(|(at, name)| name == release && (opened..=ended).contains(at))
    }

    pub(super) fn in_gap(&self, from: Duration, to: Duration) -> bool {
        self.gaps.iter().any(|gap| gap.0 < to && from < gap.1)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use uuid::Uuid;
    use vela_protocol::{Operation, Report, Who};

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Event number n happens at second n.
    fn rules(events: Vec<Event>) -> Rules {
        let begin = Timestamp::UNIX_EPOCH;
        let mut timeline = Timeline::default();
        let end = s(events.len() as u64);
        for (seq, event) in (0..).zip(events) {
            timeline.observe(&Envelope {
                v: 1,
                seq,
                time: begin + (seq as i64).seconds(),
                deploy: Uuid::nil(),
                event,
            });
        }
        timeline.rules(begin, end)
    }

    fn started() -> Event {
        Event::Started {
            app: "a".into(),
            operation: Operation::Deploy,
            release: "new".into(),
            previous: Some("old".into()),
            strategy: "blue-green".into(),
            by: Who {
                uid: None,
                user: "u".into(),
                client: None,
            },
            steps: Vec::new(),
            git: None,
            message: None,
        }
    }

    fn finished(step: Step) -> Event {
        Event::StepFinished { step, ms: 0 }
    }

    #[test]
    fn a_switch_allows_both_releases_only_while_it_happens() {
        let rules = rules(vec![
            started(),
            Event::StepStarted { step: Step::Switch },
            finished(Step::Switch),
            Event::StepStarted { step: Step::Stop },
        ]);
        assert!(rules.allows(Some("old"), s(1), s(2)));
        assert!(rules.allows(Some("new"), s(1), s(1)));
        assert!(!rules.allows(Some("old"), s(2), s(3)));
        assert!(!rules.allows(Some("third"), s(1), s(3)));
        assert!(!rules.allows(None, s(2), s(3)));
        assert!(rules.stopped("old", s(1), s(3)));
        assert!(!rules.stopped("old", s(1), s(2)), "it ended too early");
        assert!(!rules.stopped("new", s(1), s(3)));
        assert!(rules.gaps.is_empty());
    }

    #[test]
    fn a_sequential_gap_lasts_from_parking_to_the_switch() {
        let rules = rules(vec![
            started(),
            Event::StepStarted { step: Step::Park },
            Event::StepStarted {
                step: Step::StopFirst,
            },
            Event::StepStarted { step: Step::Switch },
            finished(Step::Switch),
        ]);
        assert_eq!(rules.gaps, [(s(1), s(4))]);
        assert!(rules.in_gap(s(3), s(5)));
        assert!(!rules.in_gap(s(0), s(1)) && !rules.in_gap(s(4), s(5)));
        assert!(rules.stopped("old", s(0), s(2)));
    }

    #[test]
    fn after_a_failed_deploy_only_the_old_release_may_answer() {
        let error = Report::of(&std::io::Error::other("no"));
        let rules = rules(vec![
            started(),
            Event::StepStarted { step: Step::Switch },
            finished(Step::Switch),
            Event::StepFailed {
                step: Step::Commit,
                ms: 0,
                error: error.clone(),
            },
            Event::Failed {
                step: Some(Step::Commit),
                error,
                ms: 0,
                serving: Serving::Previous {
                    release: "old".into(),
                },
            },
        ]);
        assert!(!rules.allows(Some("old"), s(2), s(2)));
        assert!(rules.allows(Some("old"), s(2), s(3)));
        assert!(!rules.allows(Some("new"), s(4), s(5)));
        assert!(rules.stopped("new", s(2), s(4)));
    }
}
