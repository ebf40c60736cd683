use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use futures::stream::BoxStream;
use uuid::Uuid;
use vela_protocol::{Envelope, Event, HistoryEntry, Outcome, Step};

use vela_release::ReleaseId;

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
    pub(crate) fn read(id: ReleaseId, dir: &Path) -> Result<Option<Record>, StateError> {
        let path = path_of(dir, id);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(StateError::at(&path))?,
        };
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
            id: id.to_string(),
            path,
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
        match Record::read(id, dir)? {
            Some(record) => records.push(record),
            None => tracing::warn!(%id, dir = %dir.display(), "a history file holds no operation"),
        }
    }
    Ok(records)
}

/// The newest operation of an app.
pub(crate) fn read_last(dir: &Path) -> Result<Option<Record>, StateError> {
    for id in ids(dir)?.into_iter().rev() {
        if let Some(record) = Record::read(id, dir)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// One operation, by the id that its client gave it. Reads the first line of each file, the newest first.
pub(crate) fn find(dir: &Path, deploy: Uuid) -> Result<Option<Record>, StateError> {
    for id in ids(dir)?.into_iter().rev() {
        let path = path_of(dir, id);
        let file = match File::open(&path) {
            // That of an operation which could not even begin.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(StateError::at(&path))?,
        };
        let mut first = String::new();
        BufReader::new(file)
            .read_line(&mut first)
            .map_err(StateError::at(&path))?;
        let is_it =
            serde_json::from_str(&first).is_ok_and(|first: Envelope| first.deploy == deploy);
        if is_it {
            return Record::read(id, dir);
        }
    }
    Ok(None)
}

/// The ids of the operations of an app, oldest first: ids sort by time. Files with other names are none.
pub(crate) fn ids(dir: &Path) -> Result<Vec<ReleaseId>, StateError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StateError::at(dir))?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(StateError::at(dir))?.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_suffix(".jsonl")?.parse::<ReleaseId>().ok());
        ids.extend(id);
    }
    ids.sort();
    Ok(ids)
}

fn path_of(dir: &Path, id: ReleaseId) -> PathBuf {
    dir.join(format!("{id}.jsonl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_goes_while_it_is_looked_for_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("gone", dir.path().join("20260305-143022.jsonl")).unwrap();
        assert!(find(dir.path(), Uuid::nil()).unwrap().is_none());
    }
}
