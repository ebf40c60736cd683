use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::Exit;
use crate::orders::{Orders, until};
use crate::wire::{self, Command, LONGEST_LINE, Report, StartFailure, State};

/// A shim answers within milliseconds; one that takes this long is stopped or stuck.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// A supervisor's end of the conversation with a keeper.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    /// Something was heard from the other side.
    pub(crate) heard: bool,
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
            heard: false,
        })
    }

    /// The first report. Cancel safe, and so can be asked again after it timed out.
    pub(crate) async fn greeting(&mut self, patience: Duration) -> io::Result<Greeting> {
        let report = timeout(patience, self.report()).await??;
        match report {
            Some(Report::Started(state)) => Ok(Greeting::Started(state)),
            Some(Report::Failed(failure)) => Ok(Greeting::Failed(failure)),
            Some(Report::Exited(_)) | None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// A shim that is stopped is not waited for once the socket's buffer is full.
    async fn send(&mut self, command: Command) -> io::Result<()> {
        let line = wire::encode(&command)?;
        timeout(ANSWER, self.stream.write_all(&line)).await?
    }

    /// `None` at the end of the stream. Cancel safe: what was read is kept.
    pub(crate) async fn report(&mut self) -> io::Result<Option<Report>> {
        loop {
            let room = (LONGEST_LINE + 1).saturating_sub(self.line.len()) as u64;
            let n = (&mut self.stream)
                .take(room)
                .read_until(b'\n', &mut self.line)
                .await?;
            if self.line.last() == Some(&b'\n') {
                let report = wire::decode(&self.line);
                self.line.clear();
                self.heard = true;
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

    /// Passes orders on until the conversation ends.
    pub(crate) async fn converse(&mut self, orders: &mut Orders) -> Outcome {
        // Over an earlier connection it may have been lost.
        let mut deaf = match orders.stop() {
            Some(stop) => self.send(Command::Stop(stop)).await.is_err(),
            None => false,
        };
        loop {
            let deadline = orders.deadline();
            tokio::select! {
                // First, whether anybody is left who wants to know: an end that was read is gone.
                biased;
                command = orders.next() => match command {
                    // The report of the end may still be there to be read.
                    Some(command) => deaf = deaf || self.send(command).await.is_err(),
                    None => return Outcome::Abandoned,
                },
                report = self.report() => match report {
                    Ok(Some(Report::Exited(exit))) => return Outcome::Exited(exit),
                    Ok(Some(_)) => {}
                    Ok(None) => return Outcome::Lost,
                    Err(error) => {
                        tracing::warn!(%error, "the connection to a shim failed");
                        return Outcome::Lost;
                    }
                },
                () = until(deadline) => return Outcome::Overdue,
            }
        }
    }
}

/// How a conversation ended.
pub(crate) enum Outcome {
    Exited(Exit),
    /// The other side is gone, and did not say how the instance ended.
    Lost,
    /// The supervisor was dropped, and with it all senders of commands.
    Abandoned,
    /// The keeper did not heed a stop.
    Overdue,
}
