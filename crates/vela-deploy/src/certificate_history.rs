//! What became of an app's certificates, for `vela history`: no operation, so nothing decides by it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use vela_protocol::{HistoryEntry, Operation, Outcome, Report, Who};
use vela_proxy::acme::{Certified, CertifierState};

use crate::dirs::AppDirs;
use crate::durable;
use crate::engine::{Engine, Inner};
use crate::error::StateError;

/// How many entries are kept: of a certificate that is renewed every two months, more than anybody reads.
const KEPT: usize = 200;

impl Engine {
    /// Notes what becomes of certificates, for as long as there is an engine.
    pub(crate) fn note_certificates(&self) {
        let Some(certifier) = &self.inner.stack.certifier else {
            return;
        };
        let mut attempts = certifier.watch();
        let engine = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            while let Some(certified) = attempts.next().await {
                let Some(engine) = Weak::upgrade(&engine) else {
                    return;
                };
                if let Err(error) = note(engine, certified).await {
                    let error = Report::of(&error);
                    tracing::warn!(%error, "what became of a certificate is not in the history");
                }
            }
        });
    }
}

/// The entries of an app, the oldest first.
pub(crate) fn read(dirs: &AppDirs) -> Result<Vec<HistoryEntry>, StateError> {
    let path = path(dirs);
    let text = durable::read_optional(&path).map_err(StateError::at(&path))?;
    let lines = text.iter().flat_map(|text| text.lines());
    lines
        .map(|line| serde_json::from_str(line).map_err(|error| StateError::damaged(&path, error)))
        .collect()
}

async fn note(engine: Arc<Inner>, certified: Certified) -> Result<(), StateError> {
    let engine = Engine { inner: engine };
    let (outcome, error) = match certified.state {
        CertifierState::Valid { .. } => (Outcome::Succeeded, None),
        CertifierState::Failing { error, hint, .. } => {
            let report = Report {
                message: error,
                causes: Vec::new(),
                hint,
                output: Vec::new(),
            };
            (Outcome::Failed, Some(report))
        }
        _ => return Ok(()),
    };
    // One that was removed meanwhile has no history to write in.
    let Ok((name, handle)) = engine.existing(certified.id.as_str()) else {
        return Ok(());
    };
    let now = engine.inner.stack.clock.now();
    let entry = HistoryEntry {
        id: format!("{}-certificate", now.strftime("%Y%m%d-%H%M%S")),
        deploy: uuid::Uuid::new_v4(),
        operation: Operation::Certificate,
        release: handle.shared.status(now).release.unwrap_or_default(),
        outcome,
        by: Who {
            uid: None,
            user: "vela".to_owned(),
            client: None,
        },
        started: now,
        duration_ms: None,
        failed_step: None,
        error,
    };
    let dirs = engine.inner.stack.dirs.app(&name);
    let appended = tokio::task::spawn_blocking(move || append(&dirs, entry));
    appended.await.unwrap_or_else(|error| {
        tracing::error!(%error, "writing a history has panicked");
        Ok(())
    })
}

/// A failure that repeats itself is noted once.
fn append(dirs: &AppDirs, entry: HistoryEntry) -> Result<(), StateError> {
    let mut entries = read(dirs).unwrap_or_else(|error| {
        tracing::warn!(error = %Report::of(&error), "a history of certificates is begun anew");
        Vec::new()
    });
    let repeats = |last: &HistoryEntry| last.error.is_some() && last.error == entry.error;
    if entries.last().is_some_and(repeats) {
        return Ok(());
    }
    entries.push(entry);
    let kept = &entries[entries.len().saturating_sub(KEPT)..];
    let path = path(dirs);
    let mut text = Vec::new();
    for entry in kept {
        serde_json::to_writer(&mut text, entry)
            .map_err(|error| StateError::damaged(&path, error))?;
        text.push(b'\n');
    }
    durable::write(&path, &text, 0o600).map_err(StateError::at(&path))
}

fn path(dirs: &AppDirs) -> PathBuf {
    dirs.root().join("certificates.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dirs::Dirs;

    #[test]
    fn a_failure_is_noted_once_and_little_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::new(dir.path()).app(&"shop".parse().unwrap());
        std::fs::create_dir_all(dirs.root()).unwrap();
        let entry = |error: Option<&str>| HistoryEntry {
            id: "1".into(),
            deploy: uuid::Uuid::nil(),
            operation: Operation::Certificate,
            release: String::new(),
            outcome: Outcome::Failed,
            by: Who {
                uid: None,
                user: "vela".into(),
                client: None,
            },
            started: "2026-03-05T14:30:22Z".parse().unwrap(),
            duration_ms: None,
            failed_step: None,
            error: error.map(|error| Report::of(&std::io::Error::other(error.to_owned()))),
        };
        for error in [
            Some("a"),
            Some("a"),
            None,
            None,
            Some("a"),
            Some("b"),
            Some("b"),
        ] {
            append(&dirs, entry(error)).unwrap();
        }
        assert_eq!(read(&dirs).unwrap().len(), 5);
        (0..KEPT).for_each(|_| append(&dirs, entry(None)).unwrap());
        assert_eq!(read(&dirs).unwrap().len(), KEPT);
        std::fs::write(path(&dirs), "damaged").unwrap();
        append(&dirs, entry(None)).unwrap();
        assert_eq!(read(&dirs).unwrap().len(), 1);
    }
}
