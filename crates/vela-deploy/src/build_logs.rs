//! What builds print is kept in `logs/builds/<release>.log`, with the release and for the last ones that failed.

use std::path::{Path, PathBuf};

use futures::stream::BoxStream;
use vela_protocol::LogLine;
use vela_release::ReleaseId;
use vela_supervisor::LogSpec;

use crate::dirs::AppDirs;
use crate::engine::Engine;
use crate::error::{EngineError, StateError};
use crate::service_views::lines_of;

impl Engine {
    /// The last lines that the build of a release wrote, or that the last build wrote, also if it failed.
    ///
    /// # Errors
    /// When the app is unknown, or there is no such log, or it can't be read.
    pub async fn build_log(
        &self,
        app: &str,
        release: Option<&str>,
        lines: usize,
    ) -> Result<BoxStream<'static, LogLine>, EngineError> {
        let (name, _) = self.existing(app)?;
        let missing = || EngineError::NoBuildLog {
            app: app.to_owned(),
            release: release.map(str::to_owned),
        };
        let wanted = release.map(|release| release.parse().map_err(|_| missing()));
        let dirs = self.inner.stack.dirs.app(&name);
        let path = find(&dirs, wanted.transpose()?)?.ok_or_else(missing)?;
        lines_of(path, lines, false)
    }
}

/// A log that reached this size is rotated once: of a build that prints more than twice as much, the end is kept.
const LOG_BYTES: u64 = 16 << 20;

/// How many logs are kept of builds that came to no release, or to one that is gone.
const OTHERS: usize = 10;

/// Where the build of a release logs.
pub(crate) fn spec(dirs: &AppDirs, release: ReleaseId) -> LogSpec {
    LogSpec {
        keep: 1,
        max_bytes: LOG_BYTES,
        ..LogSpec::new(path_of(dirs, release))
    }
}

/// The log of a release's build, or of the last build; nothing if there is none.
pub(crate) fn find(
    dirs: &AppDirs,
    release: Option<ReleaseId>,
) -> Result<Option<PathBuf>, StateError> {
    let logs = all(&dirs.build_logs())?;
    let mut found = logs.into_iter().map(|(id, _)| id);
    let id = match release {
        Some(release) => found.find(|id| *id == release),
        None => found.max(),
    };
    Ok(id.map(|id| path_of(dirs, id)))
}

/// Removes the logs of builds whose releases are not among the `kept`, but for the newest of them.
pub(crate) fn prune(dirs: &AppDirs, kept: &[ReleaseId]) -> Result<(), StateError> {
    let mut logs = all(&dirs.build_logs())?;
    logs.retain(|(release, _)| !kept.contains(release));
    let mut others: Vec<_> = logs.iter().map(|(release, _)| *release).collect();
    others.sort();
    others.dedup();
    let newest = others.split_off(others.len().saturating_sub(OTHERS));
    for (release, path) in logs {
        if !newest.contains(&release) {
            std::fs::remove_file(&path).map_err(StateError::at(&path))?;
        }
    }
    Ok(())
}

fn path_of(dirs: &AppDirs, release: ReleaseId) -> PathBuf {
    dirs.build_logs().join(format!("{release}.log"))
}

/// Each log with its release; rotated ones are logs of their own.
fn all(dir: &Path) -> Result<Vec<(ReleaseId, PathBuf)>, StateError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StateError::at(dir))?,
    };
    let mut logs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StateError::at(dir))?;
        let name = entry.file_name();
        let release = name
            .to_str()
            .and_then(|name| name.split('.').next()?.parse().ok());
        logs.extend(release.map(|release| (release, entry.path())));
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dirs::Dirs;

    #[test]
    fn logs_stay_with_their_releases_and_the_newest_of_the_others_too() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::new(dir.path()).app(&"shop".parse().unwrap());
        prune(&dirs, &[]).unwrap();
        assert_eq!(find(&dirs, None).unwrap(), None);
        std::fs::create_dir_all(dirs.build_logs()).unwrap();
        let id =
            |second: usize| -> ReleaseId { format!("20260305-1400{second:02}").parse().unwrap() };
        for second in 0..20 {
            let path = spec(&dirs, id(second)).path;
            std::fs::write(path.with_added_extension("1"), "").unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(find(&dirs, None).unwrap(), Some(path_of(&dirs, id(19))));
        assert_eq!(
            find(&dirs, Some(id(3))).unwrap(),
            Some(path_of(&dirs, id(3)))
        );

        prune(&dirs, &[id(2), id(15)]).unwrap();
        let mut left: Vec<_> = all(&dirs.build_logs())
            .unwrap()
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        left.sort();
        let expected = [2]
            .into_iter()
            .chain(9..20)
            .flat_map(|second| [id(second); 2]);
        assert_eq!(left, expected.collect::<Vec<_>>());
        assert_eq!(find(&dirs, Some(id(3))).unwrap(), None);
    }
}
