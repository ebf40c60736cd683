use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::connection::{ANSWER, Connection, Greeting, Home, attend};
use crate::process::boot_id;
use crate::registry::Registry;
use crate::run_dir::{LOCK_ALL, Lock, RunDir};
use crate::tree::Tree;
use crate::wire::State;
use crate::{Exit, ExitStatus, InstanceEvent, InstanceId};

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
    match look(&id, path).await? {
        Look::Alive(connection, state) => {
            let home = Home::Shim(path.to_owned());
            attend(registry, state.into_instance(), connection, home);
            Ok(None)
        }
        Look::Gone(event) => {
            if let Some(event) = &event {
                registry.ended(event.clone());
            }
            Ok(event)
        }
    }
}

/// What became of an instance whose connection was lost.
pub(crate) enum Found {
    Alive(Connection),
    Ended(Exit),
}

/// After the shim was killed, or gave us up.
pub(crate) async fn find_again(id: &InstanceId, path: &Path) -> Found {
    loop {
        match look(id, path).await {
            Ok(Look::Alive(connection, _)) => return Found::Alive(connection),
            Ok(Look::Gone(Some(InstanceEvent::Exited { exit, .. }))) => return Found::Ended(exit),
            Ok(Look::Gone(None)) => return Found::Ended(Exit::now(ExitStatus::Unknown)),
            Err(error) => {
                // The shim is stopped, the disk fails: it may still live, and must not be
                // declared dead. It is asked again for as long as its lock is held.
                tracing::error!(%id, %error, "cannot find an instance again");
                let dir = path.to_owned();
                let held = spawn_blocking(move || RunDir::open(dir)?.lock()).await;
                if !matches!(held, Ok(Ok(Lock::Held))) {
                    return Found::Ended(Exit::now(ExitStatus::Unknown));
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

enum Look {
    Alive(Connection, Box<State>),
    /// With the event to report, unless it never ran.
    Gone(Option<InstanceEvent>),
}

/// Connects to a shim, or cleans up after it.
async fn look(id: &InstanceId, path: &Path) -> io::Result<Look> {
    let deadline = Instant::now() + ANSWER;
    loop {
        let (dir, name) = (path.to_owned(), id.clone());
        let attempt = spawn_blocking(move || attempt(&name, dir))
            .await
            .map_err(io::Error::other)?;
        let error = match attempt? {
            Attempt::Gone(event) => return Ok(Look::Gone(event)),
            Attempt::Connected(stream) => {
                let mut connection = Connection::new(stream)?;
                match connection.greeting().await {
                    Ok(Greeting::Started(state)) if state.id == *id => {
                        return Ok(Look::Alive(connection, state));
                    }
                    Ok(_) => io::ErrorKind::InvalidData.into(),
                    Err(error) => error,
                }
            }
            Attempt::Refused(error) => error,
        };
        // A shim that is just ending: its socket is closed an instant before its lock.
        if Instant::now() > deadline || error.kind() == io::ErrorKind::InvalidData {
            return Err(error);
        }
        sleep(Duration::from_millis(2)).await;
    }
}

enum Attempt {
    Connected(std::os::unix::net::UnixStream),
    Refused(io::Error),
    Gone(Option<InstanceEvent>),
}

fn attempt(id: &InstanceId, path: PathBuf) -> io::Result<Attempt> {
    let dir = RunDir::open(path)?;
    match dir.lock()? {
        Lock::Held => Ok(dir
            .connect()
            .map_or_else(Attempt::Refused, Attempt::Connected)),
        Lock::Free => bury(id, dir).map(Attempt::Gone),
        Lock::Missing => {
            // Made, but never used; `rmdir` refuses a directory with something in it.
            rustix::fs::rmdir(dir.path())?;
            Ok(Attempt::Gone(None))
        }
    }
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
        let main = state
            .as_ref()
            .filter(|state| state.boot_id == this_boot)
            .map(|state| state.main);
        Tree::Loose {
            id: id.clone(),
            main,
        }
        .kill_all()?;
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
