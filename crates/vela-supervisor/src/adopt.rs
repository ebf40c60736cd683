use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::attend::{Home, attend};
use crate::connection::{Connection, Greeting};
use crate::process::{Process, boot_id};
use crate::registry::Registry;
use crate::run_dir::{LOCK_ALL, Lock, RunDir};
use crate::spares::Spares;
use crate::tree::Tree;
use crate::wire::State;
use crate::{Exit, ExitStatus, InstanceEvent, InstanceId};

/// A shim greets within a millisecond. One that does not is adopted by its `state` instead of
/// waited for, as all other instances would wait with it.
const PROMPT: Duration = Duration::from_millis(50);

/// How long a shim may take that has no `state` yet, as its host was killed in the middle of a start.
const STARTING: Duration = Duration::from_secs(2);

/// An entry of the run directory that was left alone, and why.
#[derive(Debug)]
pub struct Skipped {
    /// The entry.
    pub path: PathBuf,
    /// Why it is not an instance, or cannot be adopted.
    pub reason: io::Error,
}

/// What a run directory held.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    /// The instances that ended while no supervisor was there to see.
    pub(crate) ended: Vec<InstanceEvent>,
    pub(crate) skipped: Vec<Skipped>,
}

/// Adopts all instances whose shim lives, and cleans up after the others, all at the same time.
pub(crate) async fn adopt_all(run_dir: &Path, registry: &Arc<Registry>) -> io::Result<Adopted> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(run_dir)? {
        let name = entry?.file_name();
        if name != LOCK_ALL {
            entries.push(run_dir.join(name));
        }
    }
    let results = join_all(entries.iter().map(|path| adopt(path, registry))).await;
    let mut adopted = Adopted::default();
    for (path, result) in entries.into_iter().zip(results) {
        match result {
            Ok(event) => adopted.ended.extend(event),
            Err(reason) => {
                tracing::warn!(path = %path.display(), error = %reason, "left alone");
                adopted.skipped.push(Skipped { path, reason });
            }
        }
    }
    Ok(adopted)
}

async fn adopt(path: &Path, registry: &Arc<Registry>) -> io::Result<Option<InstanceEvent>> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let id = InstanceId::parse(name).map_err(invalid)?;
    let deadline = Instant::now() + STARTING;
    loop {
        let mut connection = None;
        let error = match attempt(&id, path).await? {
            Attempt::Gone(event) => {
                if let Some(event) = &event {
                    registry.ended(event.clone());
                }
                return Ok(event);
            }
            Attempt::Connected(mut stream) => match stream.greeting(PROMPT).await {
                Ok(Greeting::Started(state)) if state.id == id => {
                    let home = Home::Shim(path.to_owned());
                    attend(registry, state.into_instance(), Some(stream), home);
                    return Ok(None);
                }
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                Err(error) => {
                    connection = Some(stream);
                    error
                }
            },
            Attempt::Refused(error) => error,
        };
        if error.kind() == io::ErrorKind::InvalidData {
            return Err(error);
        }
        // It does not answer, or not even accept. Another error says that it is just ending, its
        // socket an instant before its lock; unless that takes too long.
        let silent = matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        );
        let late = Instant::now() > deadline;
        if (silent || late)
            && let Some(state) = state_of_living(&id, path).await?
        {
            tracing::warn!(%id, %error, "adopted by its state, for its shim is silent");
            let home = Home::Shim(path.to_owned());
            attend(registry, state.into_instance(), connection, home);
            return Ok(None);
        }
        if late {
            return Err(error);
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// The `state` of an instance whose shim lives.
async fn state_of_living(id: &InstanceId, path: &Path) -> io::Result<Option<Box<State>>> {
    let path = path.to_owned();
    let state = spawn_blocking(move || RunDir::open(path)?.read::<State>("state"))
        .await
        .map_err(io::Error::other)?;
    // An unreadable one says nothing.
    let Ok(Some(state)) = state else {
        return Ok(None);
    };
    let lives = |shim: Process| Process::of_pid(shim.pid).is_ok_and(|now| now == shim);
    let verified = state.id == *id && state.boot_id == boot_id()? && state.shim.is_some_and(lives);
    Ok(verified.then(|| Box::new(state)))
}

/// What became of an instance whose connection was lost.
pub(crate) enum Found {
    Alive(Connection),
    /// It may live, and must not be declared dead: to be asked again.
    Unreachable,
    Ended(Exit),
}

/// After the shim was killed, or gave us up.
pub(crate) async fn find_again(id: &InstanceId, path: &Path) -> Found {
    let error = match attempt(id, path).await {
        Ok(Attempt::Connected(connection)) => return Found::Alive(connection),
        Ok(Attempt::Gone(Some(InstanceEvent::Exited { exit, .. }))) => return Found::Ended(exit),
        Ok(Attempt::Gone(None)) => return Found::Ended(Exit::now(ExitStatus::Unknown)),
        Ok(Attempt::Refused(error)) => {
            tracing::debug!(%id, %error, "a shim does not accept");
            return Found::Unreachable;
        }
        Err(error) => error,
    };
    tracing::error!(%id, %error, "cannot find an instance again");
    let dir = path.to_owned();
    let lock = spawn_blocking(move || RunDir::open(dir)?.lock()).await;
    match lock {
        Ok(Ok(Lock::Free | Lock::Missing)) => Found::Ended(Exit::now(ExitStatus::Unknown)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Found::Ended(Exit::now(ExitStatus::Unknown))
        }
        // Its shim lives; or we cannot tell, for want of descriptors, say.
        _ => Found::Unreachable,
    }
}

/// Cleans up after a shim of ours that failed and is dead.
pub(crate) async fn bury_failed(id: &InstanceId, path: &Path) {
    // A process that is just being started by another thread has our descriptors, and so the lock,
    // until it executes its program.
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let error = match attempt(id, path).await {
            Ok(Attempt::Gone(_)) => return,
            Ok(Attempt::Connected(_)) => io::ErrorKind::ResourceBusy.into(),
            Ok(Attempt::Refused(error)) | Err(error) => error,
        };
        if Instant::now() > deadline {
            tracing::error!(path = %path.display(), %error, "left alone");
            return;
        }
        sleep(Duration::from_millis(2)).await;
    }
}

enum Attempt {
    /// To a shim that lives, or is just ending.
    Connected(Connection),
    Refused(io::Error),
    /// With the event to report, unless it never ran. Nothing is left of it.
    Gone(Option<InstanceEvent>),
}

/// Connects to a shim, or cleans up after it. Never waits for a shim.
async fn attempt(id: &InstanceId, path: &Path) -> io::Result<Attempt> {
    let (id, path) = (id.clone(), path.to_owned());
    let attempt = move || {
        let dir = RunDir::open(path)?;
        Ok(match dir.lock()? {
            Lock::Held => match dir.connect() {
                Ok(stream) => Attempt::Connected(Connection::new(stream)?),
                Err(error) => Attempt::Refused(error),
            },
            Lock::Free => Attempt::Gone(bury(&id, dir)?),
            Lock::Missing => {
                // Made, but never used; `rmdir` refuses a directory with something in it.
                rustix::fs::rmdir(dir.path())?;
                Attempt::Gone(None)
            }
        })
    };
    spawn_blocking(attempt).await.map_err(io::Error::other)?
}

/// Cleans up after a shim that is gone: kills what it left, if it was killed itself, and removes its
/// directory.
fn bury(id: &InstanceId, dir: RunDir) -> io::Result<Option<InstanceEvent>> {
    // An unreadable file tells that an instance was here, and nothing more.
    let state = dir.read::<State>("state");
    let exit = dir.read::<Exit>("exit");
    let ran = !matches!((&state, &exit), (Ok(None), Ok(None)));
    let state = state.ok().flatten().filter(|state| state.id == *id);
    let exit = exit.ok().flatten();
    if ran && exit.is_none() {
        let words = dir.last_words();
        tracing::warn!(%id, said = words, "the shim of an instance was killed");
        let this_boot = boot_id()?;
        let state = state.as_ref().filter(|state| state.boot_id == this_boot);
        let main = state.map(|state| state.main);
        let spares = state.map(|state| Spares::new(&state.spares));
        Tree::loose(id.clone(), main, spares.unwrap_or_default()).kill_all()?;
    }
    dir.remove()?;
    let exit = exit.unwrap_or_else(|| Exit::now(ExitStatus::Unknown));
    let labels = state.map_or_else(BTreeMap::new, |state| state.labels);
    Ok(ran.then(|| InstanceEvent::Exited {
        id: id.clone(),
        labels,
        exit,
    }))
}
