use std::path::Path;

use vela_protocol::{Event, Operation, Outcome, ReleaseStatus, ReleaseSummary};
use vela_release::Releases;

use crate::error::StateError;
use crate::history::{self, Record};

/// What `vela releases` shows: every deploy in the history and what has become of its release, newest first.
pub(crate) fn releases(history: &Path, kept: &Releases) -> Result<Vec<ReleaseSummary>, StateError> {
    let records = history::read_all(history)?;
    Ok(records
        .iter()
        .rev()
        .filter_map(|record| summary(record, kept))
        .collect())
}

fn summary(record: &Record, kept: &Releases) -> Option<ReleaseSummary> {
    let Event::Started {
        operation: Operation::Deploy,
        strategy,
        message,
        git,
        ..
    } = &record.events[0].event
    else {
        return None;
    };
    let entry = record.entry()?;
    let id = entry.release.parse().ok();
    let status = match entry.outcome {
        Outcome::Failed => ReleaseStatus::Failed,
        Outcome::Cancelled => ReleaseStatus::Cancelled,
        _ if id.is_some() && id == kept.current => ReleaseStatus::Current,
        Outcome::Succeeded if id.is_some_and(|id| kept.get(id).is_some()) => ReleaseStatus::Kept,
        Outcome::Succeeded => ReleaseStatus::Removed,
        _ => ReleaseStatus::Deploying,
    };
    Some(ReleaseSummary {
        release: entry.release,
        status,
        strategy: strategy.clone(),
        user: entry.by.to_string(),
        date: entry.started,
        duration_ms: entry.duration_ms,
        message: message.clone(),
        git: git.clone(),
    })
}
