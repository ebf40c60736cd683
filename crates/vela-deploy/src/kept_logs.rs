//! A directory of logs, each named for the release or operation that wrote it: `<id>.log`, `<id>.pre_start.log.1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vela_release::ReleaseId;

use crate::error::StateError;

/// The logs of each id; rotated ones are logs of their own. Without a directory there are none.
pub(crate) fn all(dir: &Path) -> Result<BTreeMap<ReleaseId, Vec<PathBuf>>, StateError> {
    let mut logs: BTreeMap<ReleaseId, Vec<PathBuf>> = BTreeMap::new();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(logs),
        other => other.map_err(StateError::at(dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(StateError::at(dir))?;
        let name = entry.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.split('.').next()?.parse().ok());
        if let Some(id) = id {
            logs.entry(id).or_default().push(entry.path());
        }
    }
    Ok(logs)
}

/// Removes the logs of every id that is not kept: each is asked about once, the newest first.
pub(crate) fn retain(
    dir: &Path,
    mut is_kept: impl FnMut(ReleaseId) -> bool,
) -> Result<(), StateError> {
    for (id, logs) in all(dir)?.into_iter().rev() {
        if !is_kept(id) {
            for log in logs {
                std::fs::remove_file(&log).map_err(StateError::at(&log))?;
            }
        }
    }
    Ok(())
}
