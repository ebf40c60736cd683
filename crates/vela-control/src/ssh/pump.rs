use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use ssh2::{Channel, Error, ErrorCode};
use tokio::sync::oneshot;

use super::link::{Ending, Link};
use super::nonblocking::{Calls, is_of_channel, timespec};
use super::session::LoggedIn;
use crate::transport::SshError;

/// How many keepalives without a sign of the server are too many.
const SILENCES: u32 = 3;
/// Two calls that wait for the server may take each other's packets in, unnoticed: while there are two, look again soon.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const SOCKET_TIMEOUT: i32 = -30;
const SOCKET_DISCONNECT: i32 = -13;

/// What a channel is opened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Door {
    /// A Unix socket of the server's.
    Socket(String),
    /// A command's standard streams.
    Command(String),
}

/// An open channel.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: UnixStream,
    /// For a command: how it ended, once the stream is dropped.
    pub(super) ending: oneshot::Receiver<Ending>,
}

pub(super) struct Request {
    pub(super) door: Door,
    pub(super) reply: oneshot::Sender<Result<Opened, SshError>>,
}

/// The asynchronous side's hold on a pump, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Handle {
    requests: Sender<Request>,
    wake: UnixStream,
}

/// Owns a session and moves the bytes of all its channels, so that none waits for another.
pub(super) struct Pump {
    logged_in: LoggedIn,
    requests: Receiver<Request>,
    wake: UnixStream,
    /// Whether the handle still exists.
    held: bool,
    opening: Option<Opening>,
    links: Vec<Link>,
    heard: Instant,
    silences: u32,
}

struct Opening {
    request: Request,
    /// The channel of a command that is yet to be started.
    channel: Option<Channel>,
}

/// Makes a pump for a session, and what holds it.
pub(super) fn pump(logged_in: LoggedIn) -> io::Result<(Handle, Pump)> {
    let (requests, receiver) = std::sync::mpsc::channel();
    let (wake, waked) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    waked.set_nonblocking(true)?;
    let handle = Handle { requests, wake };
    let pump = Pump {
        logged_in,
        requests: receiver,
        wake: waked,
        held: true,
        opening: None,
        links: Vec::new(),
        heard: Instant::now(),
        silences: 0,
    };
    Ok((handle, pump))
}

impl Handle {
    /// Opens a channel. Nothing if the session is over.
    pub(super) async fn open(&self, door: Door) -> Option<Result<Opened, SshError>> {
        let (reply, opened) = oneshot::channel();
        self.requests.send(Request { door, reply }).ok()?;
        match (&self.wake).write(&[0]) {
            // A full pipe wakes as well.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        opened.await.ok()
    }
}

impl Pump {
    /// Runs until the handle is dropped and the channels are closed, or the session breaks.
    pub(super) fn run(mut self) {
        let error = self.work().err();
        match &error {
            None => {
                let session = &self.logged_in.session;
                if let Err(error) = session.disconnect(None, "done", None) {
                    tracing::trace!(%error, "the session did not say goodbye");
                }
            }
            Some(error) => {
                tracing::debug!(host = self.logged_in.hostname, %error, "the SSH session broke");
            }
        }
        if let (Some(opening), Some(error)) = (self.opening.take(), error) {
            opening.request.answer(Err(error.into()));
        }
    }

    fn work(&mut self) -> Result<(), Error> {
        loop {
            self.take_request();
            while self.pass()? {}
            if !self.held && self.links.is_empty() && self.opening.is_none() {
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Takes the next request, one at a time: libssh2 opens no two channels at once.
    fn take_request(&mut self) {
        if self.opening.is_some() {
            return;
        }
        match self.requests.try_recv() {
            Ok(request) => {
                self.opening = Some(Opening {
                    request,
                    channel: None,
                });
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => self.held = false,
        }
    }

    /// Does once what can be done without waiting; whether that was anything.
    ///
    /// Links come first: for those the session can tell whether another's call took in what they wait for.
    fn pass(&mut self) -> Result<bool, Error> {
        let calls = calls(&self.logged_in);
        let mut moved = false;
        for link in self.links.iter_mut().filter(|link| !link.is_closing()) {
            moved |= link.pass(calls)?;
        }
        let mut at = 0;
        while at < self.links.len() {
            match self.links[at].is_closing() && self.links[at].close(calls)? {
                true => drop(self.links.swap_remove(at)),
                false => at += 1,
            }
        }
        moved |= self.open()?;
        Ok(moved || self.links.iter().any(Link::is_ready))
    }

    /// Goes on with opening a channel; whether one was opened or refused.
    fn open(&mut self) -> Result<bool, Error> {
        let Some(opening) = &mut self.opening else {
            return Ok(false);
        };
        let calls = calls(&self.logged_in);
        let session = &self.logged_in.session;
        let attempt = match (&opening.request.door, &mut opening.channel) {
            (Door::Socket(path), _) => {
                calls.attempt(|| session.channel_direct_streamlocal(path, None))
            }
            (Door::Command(_), waiting @ None) => match calls.attempt(|| session.channel_session())
            {
                Ok(channel) => {
                    let moved = channel.is_some();
                    *waiting = channel;
                    return Ok(moved);
                }
                Err(error) => Err(error),
            },
            (Door::Command(command), Some(channel)) => {
                let started = calls.attempt(|| channel.exec(command));
                started.map(|started| started.map(|()| channel.clone()))
            }
        };
        let channel = match attempt {
            Ok(None) => return Ok(false),
            Ok(Some(channel)) => Ok(channel),
            Err(error) if is_of_channel(&error) => Err(error.into()),
            Err(error) => return Err(error),
        };
        if let Some(Opening { request, .. }) = self.opening.take() {
            match channel {
                Ok(channel) => self.links.extend(request.link(channel)),
                Err(error) => request.answer(Err(error)),
            }
        }
        self.take_request();
        Ok(true)
    }

    /// Waits until something can be moved, and looks after the session meanwhile.
    fn wait(&mut self) -> Result<(), Error> {
        let waiting = self.links.iter().filter(|link| link.is_closing()).count();
        let waiting = waiting + usize::from(self.opening.is_some());
        let timeout = match waiting {
            0 => self.logged_in.keepalive,
            1 => self.logged_in.keepalive.min(Duration::from_millis(500)),
            _ => LOOK_AGAIN,
        };
        // Without anybody who would read the session, its bytes stay in the socket; only its end matters.
        let reads = self.opening.is_some() || self.links.iter().any(Link::waits_for_server);
        let server = if reads {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut fds = vec![PollFd::new(&self.logged_in.wire, server)];
        if self.held {
            fds.push(PollFd::new(&self.wake, PollFlags::IN));
        }
        let first_link = fds.len();
        for link in self.links.iter().filter(|link| !link.is_closing()) {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, link.wants_local());
            flags.set(PollFlags::OUT, link.has_for_local());
            fds.push(PollFd::new(&link.local, flags));
        }
        match poll(&mut fds, Some(&timespec(timeout))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(broken(error)),
        }
        let server = fds[0].revents();
        let woken = self.held && !fds[1].revents().is_empty();
        let hung_up: Vec<bool> = fds[first_link..]
            .iter()
            .map(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
            .collect();
        drop(fds);
        let links = self.links.iter_mut().filter(|link| !link.is_closing());
        for (link, hung_up) in links.zip(hung_up) {
            if hung_up {
                link.begin_closing();
            }
        }
        if woken {
            self.drain_wake();
        }
        if !reads && server.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(broken(Errno::CONNRESET));
        }
        self.keep_alive(!reads || server.contains(PollFlags::IN))
    }

    fn drain_wake(&mut self) {
        let mut bytes = [0; 64];
        loop {
            match self.wake.read(&mut bytes) {
                Ok(0) => {
                    self.held = false;
                    return;
                }
                Ok(count) if count == bytes.len() => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Asks the server for a sign of life when there was none for a while.
    fn keep_alive(&mut self, heard: bool) -> Result<(), Error> {
        if heard {
            self.heard = Instant::now();
            self.silences = 0;
            return Ok(());
        }
        let silent = self.heard.elapsed();
        if silent < self.logged_in.keepalive * (self.silences + 1) {
            return Ok(());
        }
        if self.silences == SILENCES {
            let code = ErrorCode::Session(SOCKET_TIMEOUT);
            return Err(Error::new(code, "the server gives no sign of life"));
        }
        self.silences += 1;
        // libssh2 would leave a packet half sent that the socket has no room for.
        if calls(&self.logged_in).is_writable() {
            self.logged_in.session.set_keepalive(true, 1);
            self.logged_in.session.keepalive_send()?;
        }
        Ok(())
    }
}

impl Request {
    fn link(self, channel: Channel) -> Option<Link> {
        let (ending, ended) = oneshot::channel();
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            Ok((ours, theirs))
        });
        let (ours, theirs) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                let message = format!("no socket pair for a channel: {error}");
                self.answer(Err(SshError { code: 0, message }));
                return None;
            }
        };
        let command = matches!(self.door, Door::Command(_)).then_some(ending);
        self.answer(Ok(Opened {
            stream: theirs,
            ending: ended,
        }));
        // If nobody waited for the answer, the other end is closed now, and the link closes by itself.
        Some(Link::new(channel, ours, command))
    }

    fn answer(self, answer: Result<Opened, SshError>) {
        if self.reply.send(answer).is_err() {
            tracing::trace!("nobody waits for the channel any more");
        }
    }
}

fn calls(logged_in: &LoggedIn) -> Calls<'_> {
    Calls {
        session: &logged_in.session,
        wire: &logged_in.wire,
        patience: logged_in.keepalive * SILENCES,
    }
}

fn broken(error: Errno) -> Error {
    tracing::debug!(%error, "waiting for the SSH session failed");
    Error::new(
        ErrorCode::Session(SOCKET_DISCONNECT),
        "the connection was closed",
    )
}
