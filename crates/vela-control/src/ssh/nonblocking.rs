use std::io::{self, Read, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use ssh2::{BlockDirections, Error, ErrorCode, Session};

use super::wire::Wire;

// libssh2's numbers of its errors.
const CHANNEL_FAILURE: i32 = -21;
const CHANNEL_REQUEST_DENIED: i32 = -22;
const CHANNEL_CLOSED: i32 = -26;
const CHANNEL_EOF_SENT: i32 = -27;
const SOCKET_TIMEOUT: i32 = -30;
const EAGAIN: i32 = -37;

/// A session's calls, none of which waits for the server.
#[derive(Clone, Copy)]
pub(super) struct Calls<'a> {
    pub(super) session: &'a Session,
    pub(super) wire: &'a Wire,
    /// How long the server may take nothing while a packet is half sent.
    pub(super) patience: Duration,
}

impl Calls<'_> {
    /// Makes a call; nothing if it must be made again once the server has sent something.
    ///
    /// A packet that the socket took only a part of has to be finished by the same call before any other one is made:
    /// libssh2 would refuse that, or mix the two. No channel could send meanwhile anyway.
    pub(super) fn attempt<T>(
        &self,
        mut call: impl FnMut() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        loop {
            let error = match call() {
                Ok(value) => return Ok(Some(value)),
                Err(error) => error,
            };
            if error.code() != ErrorCode::Session(EAGAIN) {
                return Err(error);
            }
            match self.session.block_directions() {
                BlockDirections::Outbound | BlockDirections::Both => self.wait_writable()?,
                BlockDirections::Inbound | BlockDirections::None => return Ok(None),
            }
        }
    }

    /// Reads from a channel's stream; 0 at its end.
    pub(super) fn read(
        &self,
        stream: &mut impl Read,
        room: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        self.attempt(|| stream.read(room).map_err(|error| self.numbered(error)))
    }

    /// Writes to a channel's stream. Nothing or 0 while the server's window is full.
    pub(super) fn write(
        &self,
        stream: &mut impl Write,
        bytes: &[u8],
    ) -> Result<Option<usize>, Error> {
        self.attempt(|| stream.write(bytes).map_err(|error| self.numbered(error)))
    }

    /// Whether the socket takes a small packet now.
    pub(super) fn is_writable(&self) -> bool {
        self.poll_out(Duration::ZERO).unwrap_or(false)
    }

    /// `Read` and `Write` of a channel give errors without libssh2's number; the session still has it.
    fn numbered(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock => Error::from_errno(ErrorCode::Session(EAGAIN)),
            _ => Error::last_session_error(self.session).unwrap_or_else(Error::unknown),
        }
    }

    fn wait_writable(&self) -> Result<(), Error> {
        let timed_out = || {
            Error::new(
                ErrorCode::Session(SOCKET_TIMEOUT),
                "the server takes nothing any more",
            )
        };
        match self.poll_out(self.patience) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(timed_out()),
        }
    }

    fn poll_out(&self, timeout: Duration) -> Result<bool, Errno> {
        let mut fds = [PollFd::new(self.wire, PollFlags::OUT)];
        loop {
            match poll(&mut fds, Some(&timespec(timeout))) {
                Err(Errno::INTR) => {}
                ready => return ready.map(|count| count > 0),
            }
        }
    }
}

/// Whether an error ends a channel alone, and not the session.
pub(super) fn is_of_channel(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Session(
            CHANNEL_FAILURE | CHANNEL_REQUEST_DENIED | CHANNEL_CLOSED | CHANNEL_EOF_SENT
        )
    )
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
