use std::path::{Path, PathBuf};

use vela_manifest::AppName;
use vela_release::{ReleaseId, delete_tree};
use vela_services::ServerName;
use vela_supervisor::InstanceId;

/// Where the daemon keeps its state: every path below the data directory is made here and nowhere else.
#[derive(Debug, Clone)]
pub struct Dirs {
    data_dir: PathBuf,
}

impl Dirs {
    /// The layout below `data_dir`, which need not exist yet.
    pub fn new(data_dir: impl Into<PathBuf>) -> Dirs {
        Dirs {
            data_dir: data_dir.into(),
        }
    }

    /// The data directory itself.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The lock that one daemon holds.
    pub fn lock(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    /// Every app has a directory here.
    pub fn apps(&self) -> PathBuf {
        self.data_dir.join("apps")
    }

    /// Uploads on their way in: on the file system of the releases, private, swept at start.
    pub fn staging(&self) -> PathBuf {
        self.data_dir.join("staging")
    }

    /// One directory for each live process: the supervisor's.
    pub fn run(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    /// State and credentials of services.
    pub fn services(&self) -> PathBuf {
        self.data_dir.join("services")
    }

    /// What a service's server wrote.
    pub(crate) fn service_log(&self, server: &ServerName) -> PathBuf {
        crate::service_runner::log_path(&self.services(), server)
    }

    /// The directories of one app.
    pub fn app(&self, app: &AppName) -> AppDirs {
        AppDirs {
            root: self.apps().join(app.as_str()),
        }
    }
}

/// The directories of one app.
#[derive(Debug, Clone)]
pub struct AppDirs {
    root: PathBuf,
}

impl AppDirs {
    /// The app's own directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the app keeps: `VELA_DATA_DIR`. No deploy touches it.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What is recorded of a release beside its files.
    pub fn meta(&self, release: ReleaseId) -> PathBuf {
        self.root.join("meta").join(release.to_string())
    }

    /// Every release's record.
    pub fn metas(&self) -> PathBuf {
        self.root.join("meta")
    }

    /// The versions of the app's secrets.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// One file of events for each operation.
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    /// What the user wants of the app, apart from its release.
    pub fn desired(&self) -> PathBuf {
        self.root.join("desired.toml")
    }

    /// What the current release was deployed with; derived, and read by nobody but people.
    pub fn derived(&self) -> PathBuf {
        self.root.join("app.toml")
    }

    /// What the app and its hooks wrote.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Where its source is built, on this machine: a tree with the caches of builds, and a home.
    pub fn build(&self) -> PathBuf {
        self.root.join("build")
    }

    /// What its builds wrote.
    pub fn build_logs(&self) -> PathBuf {
        self.logs().join("builds")
    }

    /// What its hooks wrote.
    pub fn hook_logs(&self) -> PathBuf {
        self.logs().join("hooks")
    }

    /// Where the app may write what need not last: releases are read-only. Gone when the app is removed.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The part of it that goes with an instance or hook; made by whoever uses it.
    pub(crate) fn tmp_of(&self, instance: &str) -> PathBuf {
        self.tmp().join(instance)
    }

    /// Removes that part: nothing runs any more that needs it.
    pub(crate) fn forget_tmp_of(&self, instance: &InstanceId) {
        forget([self.tmp_of(instance.as_str())]);
    }

    /// Where its instances have their Unix sockets: only the app's user and this program may enter.
    pub fn sockets(&self) -> PathBuf {
        self.root.join("sockets")
    }

    /// The socket of the instance that has this port, which is no other's as long as that one lives.
    pub(crate) fn socket(&self, port: u16) -> PathBuf {
        self.sockets().join(port.to_string())
    }

    /// What the app's instances wrote, all of them in one.
    pub fn log(&self) -> PathBuf {
        self.logs().join("web.log")
    }
}

/// Removes temporary directories. Nobody waits for it: an app may have written there what takes a while to remove. What
/// can't be removed, or was not when the daemon ended, is in nobody's way, and tried again when the daemon starts.
pub(crate) fn forget(directories: impl IntoIterator<Item = PathBuf> + Send + 'static) {
    tokio::task::spawn_blocking(move || {
        for path in directories {
            if let Err(error) = delete_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "could not remove a temporary directory");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_waits_until_temporary_files_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let app = Dirs::new(dir.path()).app(&"tiny".parse().unwrap());
        let id = InstanceId::random();
        let tmp = app.tmp_of(id.as_str());
        std::fs::create_dir_all(tmp.join("some/more")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            // The only thread for what blocks is busy.
            tokio::task::spawn_blocking(move || wait.recv());
            app.forget_tmp_of(&id);
            assert!(tmp.exists());
            go_on.send(()).unwrap();
        });
        // Not started any more when the runtime ends before: so a turn behind it.
        let (done, is_done) = std::sync::mpsc::channel();
        runtime.spawn_blocking(move || done.send(()));
        is_done.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(!tmp.exists());
    }
}
