//! What builds print is kept in `logs/builds/<release>.log`, with the release and for the last ones that failed.

use std::path::PathBuf;

use futures::stream::BoxStream;
use vela_protocol::LogLine;
use vela_release::ReleaseId;
use vela_supervisor::LogSpec;

use crate::dirs::AppDirs;
use crate::engine::Engine;
use crate::error::{EngineError, StateError};
use crate::kept_logs::{self, all};
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
    let id = match release {
        Some(release) => Some(release).filter(|release| logs.contains_key(release)),
        None => logs.into_keys().next_back(),
    };
    Ok(id.map(|id| path_of(dirs, id)))
}

/// Removes the logs of builds whose releases are not among the `kept`, but for the newest of them.
pub(crate) fn prune(dirs: &AppDirs, kept: &[ReleaseId]) -> Result<(), StateError> {
    let mut others = 0;
    kept_logs::retain(&dirs.build_logs(), |release| {
        kept.contains(&release) || {
            others += 1;
            others <= OTHERS
        }
    })
}

fn path_of(dirs: &AppDirs, release: ReleaseId) -> PathBuf {
    dirs.build_logs().join(format!("{release}.log"))
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
        let left = all(&dirs.build_logs()).unwrap();
        let kept = [2].into_iter().chain(9..20).map(id);
        assert!(left.keys().copied().eq(kept), "{left:?}");
        assert!(left.values().all(|logs| logs.len() == 2), "{left:?}");
        assert_eq!(find(&dirs, Some(id(3))).unwrap(), None);
    }
}
