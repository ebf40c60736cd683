//! What operations and earlier daemons left of an app: processes, temporary files, logs.

use std::path::{Path, PathBuf};

use vela_release::ReleaseId;
use vela_supervisor::{Instance, InstanceId, Stop};

use crate::app::App;
use crate::build_logs;
use crate::dirs;
use crate::error::StateError;
use crate::hook_logs;
use crate::launch::{self, StopPermit};
use crate::meta::Meta;
use crate::owner::Owner;
use crate::sockets;
use crate::step_error::StepError;

/// How many old temporary directories one start removes: an app may make as many as it likes.
const MOST_STALE: usize = 10_000;

impl App {
    /// Ends what an operation failed to end: every process of the app but those that should serve `current`.
    pub(crate) async fn sweep(&self, current: Option<ReleaseId>) {
        let is_wanted =
            |one: &Instance| current.is_some_and(|current| self.is_wanted(one, current));
        let mut leftover = self.own_instances().await;
        leftover.retain(|one| !is_wanted(one));
        self.stop_leftover(&leftover).await;
        if let Err(error) = self.prune_logs().await {
            tracing::warn!(app = %self.name, error = %error.report(), "could not remove the logs of old hooks and builds");
        }
    }

    async fn prune_logs(&self) -> Result<(), StepError> {
        let releases = self.store(None)?.list().await.map_err(StepError::Store)?;
        let kept: Vec<_> = releases.all.iter().map(|release| release.id).collect();
        build_logs::prune(&self.dirs, &kept)?;
        Ok(hook_logs::prune(&self.dirs, kept.into_iter().min())?)
    }

    /// Removes the sockets of all that runs no more, or is about to be ended; `adopted` serve by theirs. To be called
    /// before anything is started.
    pub(crate) async fn sweep_sockets(&self, adopted: Vec<u16>) {
        let dirs = self.dirs.clone();
        let swept = tokio::task::spawn_blocking(move || sockets::sweep(&dirs, &adopted)).await;
        match swept.map_err(|error| StateError::damaged(&self.dirs.sockets(), error)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(app = %self.name, %error, "could not remove old sockets");
            }
        }
    }

    /// Removes the temporary files of what the last daemon did not see the end of; `alive` are all that may need theirs.
    /// To be called before anything is started: only finding them is waited for, not their removal.
    pub(crate) async fn sweep_tmp(&self, alive: Vec<InstanceId>) {
        let tmp = self.dirs.tmp();
        let found = tokio::task::spawn_blocking(move || stale(&tmp, &alive)).await;
        match found.map_err(|error| StateError::damaged(&self.dirs.tmp(), error)) {
            Ok(Ok(stale)) => dirs::forget(stale),
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(app = %self.name, %error, "could not find old temporary files");
            }
        }
    }

    /// Removes the logs of tasks that the last daemon did not see the end of: the tasks are gone by now.
    pub(crate) fn sweep_task_logs(&self) -> Result<(), StateError> {
        let logs = self.dirs.logs();
        let entries = match std::fs::read_dir(&logs) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(StateError::at(&logs))?,
        };
        for entry in entries {
            let path = entry.map_err(StateError::at(&logs))?.path();
            if path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
            {
                std::fs::remove_file(&path).map_err(StateError::at(&path))?;
            }
        }
        Ok(())
    }

    /// Ends processes that nothing routes to: the proxy that did ended with the last daemon.
    pub(crate) async fn stop_leftover(&self, leftover: &[Instance]) {
        let stops = leftover.iter().map(|instance| async move {
            tracing::info!(app = %self.name, instance = %instance.id, "stopping a leftover");
            let (how, id) = (self.how_to_stop(instance), instance.id.clone());
            if let Err(error) = launch::stop(&*self.stack.supervisor, [id], how, StopPermit::Recovered).await {
                tracing::error!(app = %self.name, error = %error.report(), "could not stop a leftover");
            }
            self.dirs.forget_tmp_of(&instance.id);
        });
        futures::future::join_all(stops).await;
    }

    /// A task is killed; an instance is stopped as its own manifest says.
    fn how_to_stop(&self, instance: &Instance) -> Stop {
        let Some(Owner::Release { release, .. }) = Owner::of(instance) else {
            return Stop::now();
        };
        let manifest = release
            .parse()
            .ok()
            .and_then(|release| Meta::read_manifest(&self.dirs, release).ok());
        manifest
            .as_ref()
            .map(launch::how_to_stop)
            .unwrap_or_default()
    }
}

/// The directories in `tmp` that are of none of these instances.
fn stale(tmp: &Path, alive: &[InstanceId]) -> Result<Vec<PathBuf>, StateError> {
    let entries = match std::fs::read_dir(tmp) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StateError::at(tmp))?,
    };
    let mut stale = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StateError::at(tmp))?;
        let is_dir = entry
            .file_type()
            .map_err(StateError::at(&entry.path()))?
            .is_dir();
        let is_needed = alive.iter().any(|id| entry.file_name() == id.as_str());
        if is_dir && !is_needed {
            stale.push(entry.path());
        }
        if stale.len() == MOST_STALE {
            break;
        }
    }
    Ok(stale)
}
