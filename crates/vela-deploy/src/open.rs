use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};
use vela_manifest::AppName;
use vela_protocol::Report;
use vela_supervisor::{Backoff, Instance, Stop};

use crate::actor::{self, Common};
use crate::app::App;
use crate::durable;
use crate::engine::{Engine, Handle, Inner};
use crate::error::{OpenError, StateError};
use crate::owner::Owner;
use crate::shared::Shared;
use crate::stack::Stack;
use crate::uploads::Uploads;

impl Engine {
    /// Takes the data directory and restores every app in it, in parallel.
    ///
    /// Returns when every app's route is in the router's table, pointing at an instance or parked: from then on it
    /// is right to accept requests. Instances that outlived the last daemon are adopted, not restarted; what the last
    /// daemon was interrupted in is finished or undone in the background.
    ///
    /// # Errors
    /// When another engine works on the directory, or it can't be read and written.
    pub async fn open(stack: Stack) -> Result<Engine, OpenError> {
        let lock = lock(&stack).await?;
        for (dir, mode) in [
            (stack.dirs.data_dir().to_owned(), 0o711),
            (stack.dirs.apps(), 0o711),
            // The users of servers pass through it, as those of apps do above.
            (stack.dirs.services(), 0o711),
        ] {
            durable::make_dir(&dir, mode)
                .map_err(|source| OpenError::State(StateError::Io { path: dir, source }))?;
        }
        let uploads = Uploads::open(stack.dirs.staging()).map_err(OpenError::State)?;
        let alive = stack.supervisor.list().await.map_err(OpenError::Adopt)?;
        let engine = Engine {
            inner: Arc::new(Inner {
                stack: Arc::new(stack),
                common: Arc::new(Common::new(uploads)),
                hosts: Arc::default(),
                apps: Mutex::default(),
                secrets_writer: Mutex::default(),
                stopping: AtomicBool::new(false),
                resuming: Mutex::default(),
                _lock: lock,
            }),
        };
        // Before the apps, and never waited for here: each app waits for its own when it has to be started.
        engine.resume_services();
        engine.note_certificates();
        engine.restore(alive).await?;
        Ok(engine)
    }

    /// Brings the services back, each kind by itself, until it works.
    fn resume_services(&self) {
        let resuming = self.inner.stack.provisioners.iter().map(|provisioner| {
            let provisioner = Arc::clone(provisioner);
            let resuming = tokio::spawn(async move {
                let mut backoff = Backoff::new();
                while let Err(error) = provisioner.resume().await {
                    let (kind, error) = (provisioner.kind(), Report::of(&error));
                    tracing::error!(kind, %error, "services could not be brought back; trying again");
                    let pause = backoff.crashed(Duration::ZERO).max(Duration::from_secs(1));
                    tokio::time::sleep(pause).await;
                }
            });
            resuming.abort_handle()
        });
        *self.resuming() = resuming.collect();
    }

    async fn restore(&self, alive: Vec<Instance>) -> Result<(), OpenError> {
        let apps = self.inner.stack.dirs.apps();
        let at = |source| {
            OpenError::State(StateError::Io {
                path: apps.clone(),
                source,
            })
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&apps).map_err(at)? {
            let file_name = entry.map_err(at)?.file_name();
            match file_name.to_str().map(AppName::parse) {
                Some(Ok(name)) => names.push(name),
                _ => tracing::warn!(?file_name, "not an app's directory"),
            }
        }
        let mut orphans = alive;
        let ready: Vec<_> = names
            .into_iter()
            .map(|name| {
                let is_own = |one: &mut Instance| {
                    Owner::of(one).is_some_and(|owner| owner.app() == Some(name.as_str()))
                };
                let own = orphans.extract_if(.., is_own).collect();
                self.spawn(&mut self.apps_locked(), name, Some(own)).1
            })
            .collect();
        // Servers are their runner's.
        orphans.retain(|one| !matches!(Owner::of(one), Some(Owner::Service { .. })));
        for orphan in orphans {
            tracing::warn!(instance = %orphan.id, labels = ?orphan.labels, pid = orphan.pid, "a process of no known app");
            if Owner::of(&orphan).is_some()
                && let Err(error) = self
                    .inner
                    .stack
                    .supervisor
                    .stop(&orphan.id, &Stop::default())
                    .await
            {
                tracing::error!(instance = %orphan.id, %error, "could not stop it");
            }
        }
        for one in ready {
            if one.await.is_err() {
                tracing::error!("an app's actor ended before its route was known");
            }
        }
        Ok(())
    }

    /// The app's actor, started if there is none: there is never a second one.
    pub(crate) fn handle_of(&self, name: &AppName) -> Handle {
        let mut apps = self.apps_locked();
        match apps.get(name) {
            Some(handle) => handle.clone(),
            None => self.spawn(&mut apps, name.clone(), None).0,
        }
    }

    /// Starts an app's actor. `alive` is what the last daemon left running of it, or nothing for a new app.
    fn spawn(
        &self,
        apps: &mut BTreeMap<AppName, Handle>,
        name: AppName,
        alive: Option<Vec<Instance>>,
    ) -> (Handle, oneshot::Receiver<()>) {
        let shared = Arc::new(Shared::new(name.clone()));
        let (commands, received) = mpsc::channel(4);
        let (ready, is_ready) = oneshot::channel();
        let (stack, hosts) = (Arc::clone(&self.inner.stack), Arc::clone(&self.inner.hosts));
        let app = App::new(name.clone(), stack, hosts, Arc::clone(&shared));
        let common = Arc::clone(&self.inner.common);
        tokio::spawn(actor::run(app, common, alive, received, ready));
        let handle = Handle { shared, commands };
        apps.insert(name, handle.clone());
        (handle, is_ready)
    }
}

/// A process that is just being forked holds a copy of the lock until its exec: that of a daemon which was killed at
/// that moment is held for this long at most.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// Locks the data directory for this process, and leaves its pid for whoever is refused.
async fn lock(stack: &Stack) -> Result<File, OpenError> {
    let (dirs, path) = (&stack.dirs, stack.dirs.lock());
    let at = |source| {
        OpenError::State(StateError::Io {
            path: path.clone(),
            source,
        })
    };
    durable::make_dir(dirs.data_dir(), 0o711).map_err(at)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at)?;
    let began = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if began.elapsed() < LOCK_PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let pid = std::fs::read_to_string(&path)
            .ok()
            .and_then(|pid| pid.trim().parse().ok());
        return Err(OpenError::Locked {
            data_dir: dirs.data_dir().to_owned(),
            pid,
        });
    }
    file.set_len(0).map_err(at)?;
    std::io::Write::write_all(&mut &file, format!("{}\n", std::process::id()).as_bytes())
        .map_err(at)?;
    Ok(file)
}
