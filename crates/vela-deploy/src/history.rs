use std::io;
use std::path::{Path, PathBuf};

use futures::stream::BoxStream;
use uuid::Uuid;
use vela_protocol::{Envelope, Event, HistoryEntry, Outcome, Step};

use crate::error::StateError;

/// The events of one operation; the stream ends after the terminal one.
pub type Events = BoxStream<'static, Envelope>;

/// A history file as read back.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) events: Vec<Envelope>,
    /// How long the file is without a torn last line.
    pub(crate) whole_bytes: u64,
}

impl Record {
    /// Reads a file; a torn last line is ignored. Nothing if not even its first event is whole.
    fn read(id: &str, path: &Path) -> Result<Option<Record>, StateError> {
        let bytes = std::fs::read(path).map_err(StateError::at(path))?;
        let mut events = Vec::new();
        let mut whole_bytes = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(line_without_end) = line.strip_suffix(b"\n") else {
                break;
            };
            let Ok(envelope) = serde_json::from_slice(line_without_end) else {
                break;
            };
            events.push(envelope);
            whole_bytes += line.len() as u64;
        }
        let started = matches!(
            events.first(),
            Some(Envelope {
                event: Event::Started { .. },
                ..
            })
        );
        Ok(started.then(|| Record {
            id: id.to_owned(),
            path: path.to_owned(),
            events,
            whole_bytes,
        }))
    }

    pub(crate) fn deploy(&self) -> Uuid {
        self.events[0].deploy
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.events
            .last()
            .is_some_and(|last| last.event.is_terminal())
    }

    /// Whether the intent to take `step` was recorded.
    pub(crate) fn has_begun(&self, step: Step) -> bool {
        self.events
            .iter()
            .any(|e| matches!(e.event, Event::StepStarted { step: begun } if begun == step))
    }

    pub(crate) fn entry(&self) -> Option<HistoryEntry> {
        let first = &self.events[0];
        let Event::Started {
            operation,
            release,
            by,
            ..
        } = &first.event
        else {
            return None;
        };
        let mut entry = HistoryEntry {
            id: self.id.clone(),
            deploy: first.deploy,
            operation: *operation,
            release: release.clone(),
            outcome: Outcome::Running,
            by: by.clone(),
            started: first.time,
            duration_ms: None,
            failed_step: None,
            error: None,
        };
        match self.events.last().map(|last| &last.event) {
            Some(Event::Succeeded { ms, .. }) => {
                (entry.outcome, entry.duration_ms) = (Outcome::Succeeded, Some(*ms));
            }
            Some(Event::Cancelled { ms, .. }) => {
                (entry.outcome, entry.duration_ms) = (Outcome::Cancelled, Some(*ms));
            }
            Some(Event::Failed {
                step, error, ms, ..
            }) => {
                (entry.outcome, entry.duration_ms) = (Outcome::Failed, Some(*ms));
                (entry.failed_step, entry.error) = (*step, Some(error.clone()));
            }
            _ => {}
        }
        Some(entry)
    }
}

/// Every operation of an app, oldest first. Files that are not history are passed over with a warning.
pub(crate) fn read_all(dir: &Path) -> Result<Vec<Record>, StateError> {
    let mut records = Vec::new();
    for id in ids(dir)? {
        match Record::read(&id, &dir.join(format!("{id}.jsonl")))? {
            Some(record) => records.push(record),
            None => tracing::warn!(%id, dir = %dir.display(), "a history file holds no operation"),
        }
    }
    Ok(records)
}

/// The newest operation of an app.
pub(crate) fn read_last(dir: &Path) -> Result<Option<Record>, StateError> {
    match ids(dir)?.pop() {
        Some(id) => Record::read(&id, &dir.join(format!("{id}.jsonl"))),
        None => Ok(None),
    }
}

/// The ids of the operations of an app, oldest first: ids sort by time.
pub(crate) fn ids(dir: &Path) -> Result<Vec<String>, StateError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StateError::at(dir))?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(StateError::at(dir))?.file_name();
        ids.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".jsonl"))
                .map(str::to_owned),
        );
    }
    ids.sort();
    Ok(ids)
}
