//! What hooks print is kept in `logs/hooks/<operation>.<hook>.log`: all of it, while the history has the beginning.

use vela_protocol::Hook;
use vela_release::ReleaseId;
use vela_supervisor::LogSpec;

use crate::dirs::AppDirs;
use crate::error::StateError;
use crate::kept_logs;

/// A log that reached this size is rotated once: of a hook that prints more than twice as much, the end is kept.
const LOG_BYTES: u64 = 8 << 20;

/// The logs of no more than so many operations are kept, however many have failed since the oldest release.
const OPERATIONS: usize = 50;

/// Where a hook of an operation logs.
pub(crate) fn spec(dirs: &AppDirs, operation: &str, hook: Hook) -> LogSpec {
    LogSpec {
        keep: 1,
        max_bytes: LOG_BYTES,
        ..LogSpec::new(dirs.hook_logs().join(format!("{operation}.{hook}.log")))
    }
}

/// Removes the logs of operations that are older than the oldest release there still is, and of all but the newest
/// operations.
pub(crate) fn prune(dirs: &AppDirs, oldest: Option<ReleaseId>) -> Result<(), StateError> {
    let mut operations = 0;
    kept_logs::retain(&dirs.hook_logs(), |operation| {
        operations += 1;
        operations <= OPERATIONS && oldest.is_none_or(|oldest| operation >= oldest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dirs::Dirs;

    #[test]
    fn logs_go_with_their_releases_and_never_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::new(dir.path()).app(&"shop".parse().unwrap());
        prune(&dirs, None).unwrap();
        std::fs::create_dir_all(dirs.hook_logs()).unwrap();
        let names = || {
            let mut names: Vec<_> = kept_logs::all(&dirs.hook_logs())
                .unwrap()
                .into_values()
                .flatten()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        let write = |name: &str| std::fs::write(dirs.hook_logs().join(name), "x").unwrap();
        let operation = |second: usize| format!("20260305-14{:02}{:02}", second / 60, second % 60);
        for second in 0..60 {
            let log = spec(&dirs, &operation(second), Hook::PreStart).path;
            write(log.file_name().unwrap().to_str().unwrap());
            write(&format!("{}.pre_start.log.1", operation(second)));
            write(&format!("{}.post_deploy.log", operation(second)));
        }
        prune(&dirs, None).unwrap();
        assert_eq!(names().len(), 3 * OPERATIONS);
        assert!(names()[0].starts_with(&operation(10)), "{:?}", names());
        prune(&dirs, Some(operation(58).parse().unwrap())).unwrap();
        let left: Vec<_> = (58..60)
            .flat_map(|second| {
                ["post_deploy.log", "pre_start.log", "pre_start.log.1"]
                    .map(|end| format!("{}.{end}", operation(second)))
            })
            .collect();
        assert_eq!(names(), left);
    }
}
