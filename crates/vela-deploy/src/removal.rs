use std::path::Path;

use vela_protocol::Who;
use vela_release::delete_tree;

use crate::app::App;
use crate::desired::{Desired, Removing};
use crate::dirs::AppDirs;
use crate::error::{EngineError, StateError};
use crate::services;
use crate::step_error::StepError;

impl App {
    /// Stops and unroutes the app, and removes what is on disk of it. The wish is on disk first: a crash leaves the rest
    /// to the next start.
    pub(crate) async fn remove(
        &mut self,
        removing: Removing,
        who: &Who,
    ) -> Result<(), EngineError> {
        tracing::info!(app = %self.name, by = %who, ?removing, "removing the app");
        self.set_desired(Desired {
            running: false,
            removing: Some(removing),
            ..self.desired.clone()
        })?;
        self.halt().await?;
        if let Some(replaced) = self.route.remove().await.map_err(EngineError::Route)? {
            // The instances are stopped: what is replaced is the route without upstreams.
            self.stack
                .router
                .drain(replaced, vela_proxy::DrainLimits::NONE)
                .await;
        }
        self.forget_certificate();
        self.hosts.keep_only(&self.name, &[]);
        self.shared.set_stopped(None, None, false);
        self.take_away(removing).await.map_err(|error| match error {
            StepError::State(source) => EngineError::State(source),
            error => error.of_services(&self.name),
        })
    }

    /// What is left of a removal once nothing of the app runs: its services, then its files. Done again as a whole where
    /// it was interrupted.
    pub(crate) async fn take_away(&mut self, removing: Removing) -> Result<(), StepError> {
        services::remove(&self.stack, &self.name, removing == Removing::Purge).await?;
        Ok(self.delete(removing).await?)
    }

    /// Removes what is on disk of the app: all of it, or all but its data, secrets and history.
    ///
    /// The wish in `desired.toml` goes last: whatever is interrupted before is gone on with at the next start.
    async fn delete(&mut self, removing: Removing) -> Result<(), StateError> {
        self.shared.forget_store();
        let dirs = self.dirs.clone();
        let deleting = tokio::task::spawn_blocking(move || delete(&dirs, removing));
        deleting
            .await
            .map_err(|error| StateError::damaged(self.dirs.root(), error))??;
        self.desired = Desired::default();
        // The app that may come next under this name is another one. There is no route that could fail to be changed.
        if let Err(error) = self.apply_maintenance().await {
            tracing::warn!(app = %self.name, %error, "could not end the maintenance of a removed app");
        }
        self.shared.set_exists(false);
        Ok(())
    }
}

fn delete(dirs: &AppDirs, removing: Removing) -> Result<(), StateError> {
    let root = dirs.root();
    // The link first: without it nothing of the app is ever started again.
    for file in [root.join("current"), dirs.derived()] {
        remove_file(&file)?;
    }
    let mut trees = vec![
        root.join("releases"),
        dirs.metas(),
        dirs.logs(),
        dirs.tmp(),
        dirs.sockets(),
        dirs.build(),
    ];
    if removing == Removing::Purge {
        trees.extend([dirs.data(), dirs.secrets(), dirs.history()]);
    }
    for tree in trees {
        delete_tree(&tree).map_err(StateError::at(&tree))?;
    }
    remove_file(&dirs.desired())?;
    match removing {
        Removing::Keep => Ok(()),
        Removing::Purge => delete_tree(root).map_err(StateError::at(root)),
    }
}

fn remove_file(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StateError::at(path)(error))
        }
        _ => Ok(()),
    }
}
