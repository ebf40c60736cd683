use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::registry::{Live, Registry};
use crate::wire::{self, Command, LONGEST_LINE, Report, StartFailure, State};
use crate::{Exit, ExitStatus, Instance, InstanceEvent, InstanceId, adopt, shim_supervisor};

/// A shim answers within milliseconds; one that takes this long is stopped or stuck.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// A supervisor's end of the conversation with a keeper.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

/// How a keeper first answered.
#[derive(Debug)]
pub(crate) enum Greeting {
    Started(Box<State>),
    Failed(StartFailure),
}

impl Connection {
    pub(crate) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: BufReader::new(UnixStream::from_std(stream)?),
            line: Vec::new(),
        })
    }

    /// The first report.
    pub(crate) async fn greeting(&mut self) -> io::Result<Greeting> {
        let report = tokio::time::timeout(ANSWER, self.report()).await??;
        match report {
            Some(Report::Started(state)) => Ok(Greeting::Started(state)),
            Some(Report::Failed(failure)) => Ok(Greeting::Failed(failure)),
            Some(Report::Exited(_)) | None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Sends one command.
    pub(crate) async fn send(&mut self, command: Command) -> io::Result<()> {
        self.stream.write_all(&wire::encode(&command)?).await
    }

    /// `None` at the end of the stream. Cancel safe: what was read is kept.
    async fn report(&mut self) -> io::Result<Option<Report>> {
        loop {
            let room = (LONGEST_LINE + 1).saturating_sub(self.line.len()) as u64;
            let n = (&mut self.stream)
                .take(room)
                .read_until(b'\n', &mut self.line)
                .await?;
            if self.line.last() == Some(&b'\n') {
                let report = wire::decode(&self.line);
                self.line.clear();
                let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                return report.map(Some).map_err(invalid);
            }
            if self.line.len() > LONGEST_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if n == 0 {
                return Ok(None);
            }
        }
    }

    /// Passes commands on until the conversation ends.
    async fn converse(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Outcome {
        let mut deaf = false;
        loop {
            tokio::select! {
                report = self.report() => match report {
                    Ok(Some(Report::Exited(exit))) => return Outcome::Exited(exit),
                    Ok(Some(_)) => {}
                    Ok(None) => return Outcome::Lost,
                    Err(error) => {
                        tracing::warn!(%error, "the connection to a shim failed");
                        return Outcome::Lost;
                    }
                },
                command = commands.recv(), if !deaf => match command {
                    // The report of the end may still be there to be read.
                    Some(command) => deaf = self.send(command).await.is_err(),
                    None => return Outcome::Abandoned,
                },
            }
        }
    }
}

enum Outcome {
    Exited(Exit),
    /// The other side is gone, and did not say how the instance ended.
    Lost,
    /// The supervisor was dropped, and with it all senders of commands.
    Abandoned,
}

/// Where an instance is kept.
#[derive(Debug)]
pub(crate) enum Home {
    /// By a shim, in this directory.
    Shim(PathBuf),
    /// By a thread of this process.
    Thread,
}

/// Looks after an instance that has started: enters it into the registry, and takes it out again
/// before its end is told.
pub(crate) fn attend(
    registry: &Arc<Registry>,
    instance: Instance,
    connection: Connection,
    home: Home,
) {
    let (commands, orders) = mpsc::unbounded_channel();
    let (exited, exit) = watch::channel(None);
    let (id, labels) = (instance.id.clone(), instance.labels.clone());
    registry.insert(Live {
        instance,
        commands,
        exit,
    });
    let registry = Arc::downgrade(registry);
    tokio::spawn(async move {
        let Some(exit) = until_end(&id, connection, orders, home).await else {
            return;
        };
        if let Some(registry) = registry.upgrade() {
            registry.ended(InstanceEvent::Exited { id, labels, exit });
        }
        exited.send_replace(Some(exit));
    });
}

async fn until_end(
    id: &InstanceId,
    mut connection: Connection,
    mut orders: mpsc::UnboundedReceiver<Command>,
    home: Home,
) -> Option<Exit> {
    loop {
        let outcome = connection.converse(&mut orders).await;
        match (outcome, &home) {
            (Outcome::Abandoned, _) => return None,
            (Outcome::Exited(exit), Home::Thread) => return Some(exit),
            (Outcome::Exited(exit), Home::Shim(path)) => {
                shim_supervisor::clean(path.clone()).await;
                return Some(exit);
            }
            (Outcome::Lost, Home::Thread) => return Some(Exit::now(ExitStatus::Unknown)),
            (Outcome::Lost, Home::Shim(path)) => match adopt::find_again(id, path).await {
                adopt::Found::Alive(again) => connection = again,
                adopt::Found::Ended(exit) => return Some(exit),
            },
        }
    }
}
