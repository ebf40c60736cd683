use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::connection::{Connection, Outcome};
use crate::orders::Orders;
use crate::registry::{Live, Registry};
use crate::tree::Tree;
use crate::{Exit, ExitStatus, Instance, InstanceEvent, InstanceId, adopt, shim_supervisor};

/// How often a shim that lives is asked to let us in again, once it has refused for a while.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where an instance is kept.
#[derive(Debug)]
pub(crate) enum Home {
    /// By a shim, in this directory.
    Shim(PathBuf),
    /// By a thread of this process.
    Thread,
}

/// Looks after an instance that has started: enters it into the registry, and takes it out again
/// before its end is told. Without a connection, makes one.
pub(crate) fn attend(
    registry: &Arc<Registry>,
    instance: Instance,
    connection: Option<Connection>,
    home: Home,
) {
    let (commands, orders) = mpsc::unbounded_channel();
    let (exited, exit) = watch::channel(None);
    let (id, labels) = (instance.id.clone(), instance.labels.clone());
    let attendance = Attendance {
        id: id.clone(),
        tree: instance.tree.clone(),
        connection,
        orders: Orders::new(orders),
        home,
    };
    registry.insert(Live {
        instance,
        commands,
        exit,
    });
    let registry = Arc::downgrade(registry);
    tokio::spawn(async move {
        let Some(exit) = attendance.until_end().await else {
            return;
        };
        if let Some(registry) = registry.upgrade() {
            registry.ended(InstanceEvent::Exited { id, labels, exit });
        }
        exited.send_replace(Some(exit));
    });
}

struct Attendance {
    id: InstanceId,
    tree: Tree,
    connection: Option<Connection>,
    orders: Orders,
    home: Home,
}

impl Attendance {
    async fn until_end(mut self) -> Option<Exit> {
        let mut pause = Duration::ZERO;
        loop {
            let outcome = match &mut self.connection {
                Some(connection) => connection.converse(&mut self.orders).await,
                None => self.orders.wait(pause).await,
            };
            match (outcome, &self.home) {
                (Outcome::Abandoned, _) => return None,
                (Outcome::Overdue, _) => self.kill().await,
                (Outcome::Exited(exit), Home::Thread) => return Some(exit),
                (Outcome::Exited(exit), Home::Shim(path)) => {
                    shim_supervisor::clean(path.clone()).await;
                    return Some(exit);
                }
                (Outcome::Lost, Home::Thread) => return Some(Exit::now(ExitStatus::Unknown)),
                (Outcome::Lost, Home::Shim(path)) => match self.connection.take() {
                    Some(lost) if lost.heard => pause = Duration::ZERO,
                    // Let in and thrown out without a word.
                    Some(_) => pause = longer(pause),
                    None => match adopt::find_again(&self.id, path).await {
                        adopt::Found::Alive(again) => self.connection = Some(again),
                        adopt::Found::Unreachable => pause = longer(pause),
                        adopt::Found::Ended(exit) => return Some(exit),
                    },
                },
            }
        }
    }

    /// Does what the keeper should have done long ago.
    async fn kill(&mut self) {
        tracing::error!(id = %self.id, "killing an instance whose keeper does not end it");
        self.orders.forget_deadline();
        let tree = self.tree.clone();
        let killed = spawn_blocking(move || tree.kill_with_keeper()).await;
        if !matches!(killed, Ok(Ok(()))) {
            tracing::error!(id = %self.id, ?killed, "cannot kill an instance");
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(Duration::from_millis(2), LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::process::{Process, boot_id};
    use crate::run_dir::RunDir;
    use crate::wire::{self, Command, Report, State};
    use crate::{Signal, Stop};

    /// Plays the shim: hangs up on the first stop, without having read more than that.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_that_was_lost_is_told_again() {
        let root = tempfile::tempdir().unwrap();
        let id = InstanceId::random();
        let path = root.path().join(id.as_str());
        let dir = RunDir::create(path.clone()).unwrap();
        let lock = dir.make_lock().unwrap();
        let listener = dir.listen().unwrap();
        let state = State {
            id: id.clone(),
            labels: BTreeMap::new(),
            boot_id: boot_id().unwrap(),
            shim: Some(Process { pid: 0, start: 0 }),
            main: Process { pid: 0, start: 0 },
            started_at: jiff::Timestamp::now(),
            port: None,
            spares: Vec::new(),
        };
        let registry = Arc::new(Registry::default());
        let instance = state.clone().into_instance();
        attend(&registry, instance, None, Home::Shim(path.clone()));

        let exit = Exit::now(ExitStatus::Code(3));
        let shim = std::thread::spawn(move || {
            let greet = || {
                let mut peer = listener.accept().unwrap().0;
                let greeting = Report::Started(Box::new(state.clone()));
                peer.write_all(&wire::encode(&greeting).unwrap()).unwrap();
                peer
            };
            let hear = |peer: &UnixStream| {
                let mut line = Vec::new();
                BufReader::new(peer).read_until(b'\n', &mut line).unwrap();
                wire::decode::<Command>(&line).unwrap()
            };
            let peer = greet();
            let lost = hear(&peer);
            drop(peer);
            let mut peer = greet();
            let told = [lost, hear(&peer)];
            peer.write_all(&wire::encode(&Report::Exited(exit)).unwrap())
                .unwrap();
            drop(lock);
            told
        });
        let stop = Stop {
            signal: Signal::Term,
            grace: Duration::from_secs(600),
        };
        let stopped = registry.stopped(&id, &stop);
        let stopped = tokio::time::timeout(Duration::from_secs(20), stopped).await;
        assert_eq!(stopped.expect("it is told in time").unwrap(), exit);
        assert_eq!(shim.join().unwrap(), [Command::Stop(stop); 2]);
        assert!(!path.exists());
    }
}
