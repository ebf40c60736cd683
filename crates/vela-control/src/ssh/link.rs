use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ssh2::Channel;
use tokio::sync::oneshot;

use super::buffer::{Buffer, unless_waiting};
use super::nonblocking::{Calls, is_of_channel};

const BUFFER: usize = 64 << 10;
/// What is kept of what a remote command writes to its standard error.
const STDERR: usize = 4 << 10;
/// How long to wait for the exit status of a command that has closed its output.
const EXIT: Duration = Duration::from_secs(2);

/// One channel of the session, joined to one end of a socket pair whose other end is the asynchronous side's.
pub(super) struct Link {
    channel: Channel,
    pub(super) local: UnixStream,
    /// From the local side to the server.
    up: Buffer,
    /// From the server to the local side.
    down: Buffer,
    local_ended: bool,
    remote_ended: bool,
    told_remote: bool,
    told_local: bool,
    command: Option<Command>,
    closing: Option<Instant>,
}

/// How a remote command ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Nothing if it had not ended when its stream was dropped.
    pub(super) status: Option<i32>,
    pub(super) signal: Option<String>,
    pub(super) stderr: String,
}

struct Command {
    stderr: Vec<u8>,
    ending: oneshot::Sender<Ending>,
}

impl Link {
    pub(super) fn new(
        channel: Channel,
        local: UnixStream,
        command: Option<oneshot::Sender<Ending>>,
    ) -> Link {
        Link {
            channel,
            local,
            up: Buffer::new(BUFFER),
            down: Buffer::new(BUFFER),
            local_ended: false,
            remote_ended: false,
            told_remote: false,
            told_local: false,
            command: command.map(|ending| Command {
                stderr: Vec::new(),
                ending,
            }),
            closing: None,
        }
    }

    /// Moves what can be moved in both directions without waiting; whether anything was.
    ///
    /// An error is the session's: the link's own end in its being closed.
    pub(super) fn pass(&mut self, calls: Calls<'_>) -> Result<bool, ssh2::Error> {
        let mut moved = self.pass_stderr(calls)?;
        moved |= match self.pass_down(calls) {
            Err(error) if is_of_channel(&error) => self.begin_closing(),
            result => result?,
        };
        moved |= match self.pass_up(calls) {
            Err(error) if is_of_channel(&error) => self.begin_closing(),
            result => result?,
        };
        Ok(moved)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// The asynchronous side is gone, or the channel is of no more use.
    pub(super) fn begin_closing(&mut self) -> bool {
        self.closing.get_or_insert_with(Instant::now);
        true
    }

    /// Goes on with closing; whether it is done, and the link can be dropped.
    pub(super) fn close(&mut self, calls: Calls<'_>) -> Result<bool, ssh2::Error> {
        let since = *self.closing.get_or_insert_with(Instant::now);
        self.pass_stderr(calls)?;
        let patient = since.elapsed() < EXIT;
        let mut has_ended = false;
        // A command that is closed before it has reported its exit status never reports it.
        if self.command.is_some() && self.channel.eof() && patient {
            match calls.attempt(|| self.channel.wait_close()) {
                Ok(None) => return Ok(false),
                Ok(Some(())) => has_ended = true,
                Err(error) if is_of_channel(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match calls.attempt(|| self.channel.close()) {
            Ok(None) if patient => return Ok(false),
            Ok(_) => {}
            Err(error) if is_of_channel(&error) => {}
            Err(error) => return Err(error),
        }
        if let Some(command) = self.command.take() {
            let signal = self.channel.exit_signal().ok();
            let signal = signal.and_then(|signal| signal.exit_signal);
            let has_status = has_ended && signal.is_none();
            let ending = Ending {
                // A command that runs on, or that a signal killed, has the status 0.
                status: self.channel.exit_status().ok().filter(|_| has_status),
                signal,
                stderr: String::from_utf8_lossy(&command.stderr).into_owned(),
            };
            if command.ending.send(ending).is_err() {
                tracing::trace!("nobody waits for the command's end");
            }
        }
        Ok(true)
    }

    /// Whether the local side is to be read from.
    pub(super) fn wants_local(&self) -> bool {
        self.up.is_empty() && !self.local_ended
    }

    /// Whether there is something for the local side.
    pub(super) fn has_for_local(&self) -> bool {
        !self.down.is_empty()
    }

    /// Whether something that the server sends could move this link on.
    pub(super) fn waits_for_server(&self) -> bool {
        self.is_closing() || !self.up.is_empty() || (self.down.is_empty() && !self.remote_ended)
    }

    /// Whether the session holds something for this link, which came in while another channel was being read.
    pub(super) fn is_ready(&self) -> bool {
        if self.is_closing() {
            return false;
        }
        let readable = self.down.is_empty()
            && !self.remote_ended
            && (self.channel.read_window().available > 0 || self.channel.eof());
        let writable = !self.up.is_empty() && self.channel.write_window().remaining > 0;
        readable || writable
    }

    fn pass_down(&mut self, calls: Calls<'_>) -> Result<bool, ssh2::Error> {
        let mut moved = false;
        if self.down.is_empty() && !self.remote_ended {
            let channel = &mut self.channel;
            let read = self.down.fill(|room| calls.read(channel, room))?;
            self.remote_ended = read == Some(0);
            moved |= read.is_some();
        }
        if !self.down.is_empty() {
            match unless_waiting(self.local.write(self.down.filled())) {
                Ok(Some(count)) => {
                    self.down.take(count);
                    moved = true;
                }
                Ok(None) => {}
                // Nobody reads it any more.
                Err(_) => return Ok(self.begin_closing()),
            }
        }
        if self.remote_ended && self.down.is_empty() && !self.told_local {
            self.told_local = true;
            moved = true;
            if self.local.shutdown(Shutdown::Write).is_err() {
                self.begin_closing();
            }
        }
        Ok(moved)
    }

    fn pass_up(&mut self, calls: Calls<'_>) -> Result<bool, ssh2::Error> {
        let mut moved = false;
        if self.wants_local() {
            let local = &mut self.local;
            match self.up.fill(|room| unless_waiting(local.read(room))) {
                Ok(read) => {
                    self.local_ended = read == Some(0);
                    moved |= read.is_some();
                }
                Err(_) => return Ok(self.begin_closing()),
            }
        }
        if !self.up.is_empty() {
            let sent = calls
                .write(&mut self.channel, self.up.filled())?
                .unwrap_or(0);
            self.up.take(sent);
            moved |= sent > 0;
        }
        if self.local_ended && self.up.is_empty() && !self.told_remote {
            let told = calls.attempt(|| self.channel.send_eof())?;
            self.told_remote = told.is_some();
            moved |= told.is_some();
        }
        Ok(moved)
    }

    /// Takes what a command writes to its standard error: left alone, it would fill the window and stop its output.
    fn pass_stderr(&mut self, calls: Calls<'_>) -> Result<bool, ssh2::Error> {
        let Some(command) = &mut self.command else {
            return Ok(false);
        };
        let mut stream = self.channel.stderr();
        let mut room = [0; 1024];
        let mut moved = false;
        loop {
            match calls.read(&mut stream, &mut room) {
                Ok(None | Some(0)) => return Ok(moved),
                Ok(Some(count)) => {
                    moved = true;
                    let left = STDERR.saturating_sub(command.stderr.len());
                    command.stderr.extend_from_slice(&room[..count.min(left)]);
                }
                Err(error) if is_of_channel(&error) => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
    }
}
