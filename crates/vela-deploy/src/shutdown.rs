use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use vela_protocol::{Report, Who};

use crate::actor::Command;
use crate::engine::Engine;
use crate::service_runner::running_servers;

impl Engine {
    /// Ends the engine's work. Operations that can still be undone are; others are finished. The instances go on
    /// under their shims, and the servers of services too, unless `stop_apps` is set.
    pub async fn shutdown(&self, stop_apps: bool) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        let handles: Vec<_> = self.apps_locked().values().cloned().collect();
        let by = Who {
            uid: None,
            user: "vela".to_owned(),
            client: Some("the daemon was stopped".to_owned()),
        };
        let ends = handles.iter().map(|handle| {
            let by = by.clone();
            async move {
                handle.shared.hurry();
                if let Err(why) = handle.shared.cancel(None, by) {
                    tracing::debug!(?why, "nothing to cancel");
                }
                let (reply, ended) = oneshot::channel();
                let command = Command::Shutdown {
                    stop_instances: stop_apps,
                    reply,
                };
                if handle.commands.send(command).await.is_err() || ended.await.is_err() {
                    tracing::error!("an app's actor had ended by itself");
                }
            }
        });
        futures::future::join_all(ends).await;
        if stop_apps {
            self.stop_services().await;
        }
    }

    /// Ends the servers of services: no app runs that would miss them.
    async fn stop_services(&self) {
        let resuming = std::mem::take(&mut *self.resuming());
        resuming.iter().for_each(AbortHandle::abort);
        let stack = &self.inner.stack;
        let servers = running_servers(&*stack.supervisor).await;
        let servers = servers.unwrap_or_else(|error| {
            tracing::error!(%error, "could not list the servers");
            Default::default()
        });
        let stops = servers.iter().map(|server| async move {
            if let Err(error) = stack.runner.stop(server).await {
                tracing::error!(%server, error = %Report::of(&error), "could not stop a server");
            }
        });
        futures::future::join_all(stops).await;
    }
}
