use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};

use super::ask::Ask;
use super::joining::{Word, read_word, why_silent};
use super::pump::{Door, Handle, Opened, pump};
use super::session::log_in;
use super::{SshOptions, SshTarget};
use crate::transport::{Io, SshError, Transport, TransportError};

/// SSH spoken by this process, with libssh2.
///
/// All streams are channels of one session, which is made at the first call and again when it broke. A thread of its
/// own moves their bytes; it ends with the transport.
pub struct Ssh2Transport {
    target: SshTarget,
    options: SshOptions,
    ask: Arc<dyn Ask>,
    /// Locked while the session is made, so that calls at the same time share it and the user is asked once.
    session: Mutex<Option<Arc<Live>>>,
    /// The way that led to the daemon the first time, on whatever session.
    door: OnceLock<Door>,
}

struct Live {
    pump: Handle,
    /// The host as SSH knows it.
    hostname: String,
}

impl Ssh2Transport {
    /// To the daemon at `target`; nothing is opened yet.
    pub fn new(target: SshTarget, options: SshOptions, ask: Arc<dyn Ask>) -> Ssh2Transport {
        Ssh2Transport {
            target,
            options,
            ask,
            session: Mutex::new(None),
            door: OnceLock::new(),
        }
    }

    async fn log_in(&self) -> Result<Arc<Live>, TransportError> {
        let (target, options) = (self.target.clone(), self.options.clone());
        let ask = Arc::clone(&self.ask);
        let (reply, logged_in) = oneshot::channel();
        let work = move || {
            let host = target.host.clone();
            let unprepared = |source| TransportError::Local { host, source };
            let made = log_in(&target, &options, &*ask).and_then(|logged_in| {
                let hostname = logged_in.hostname.clone();
                let (handle, pump) = pump(logged_in).map_err(unprepared)?;
                Ok((handle, hostname, pump))
            });
            // If nobody waits any more, the handle is dropped and the pump ends at once.
            match made {
                Ok((handle, hostname, pump)) => {
                    if reply.send(Ok((handle, hostname))).is_ok() {
                        pump.run();
                    }
                }
                Err(error) => drop(reply.send(Err(error))),
            }
        };
        let host = &self.target.host;
        let unprepared = |source| TransportError::Local {
            host: host.clone(),
            source,
        };
        let thread = std::thread::Builder::new().name("vela-ssh".into());
        thread.spawn(work).map_err(unprepared)?;
        let ended = |_| unprepared(io::Error::other("the thread ended"));
        let (pump, hostname) = logged_in.await.map_err(ended)??;
        Ok(Arc::new(Live { pump, hostname }))
    }

    /// Opens the daemon's socket over a session; nothing if the session is over.
    async fn enter(&self, live: &Live) -> Option<Result<Box<dyn Io>, TransportError>> {
        let forwarded = match self.door.get() {
            Some(Door::Command(command)) => {
                return self.join(live, command).await;
            }
            Some(Door::Socket(socket)) => socket.clone(),
            None => match self.target.socket() {
                Ok(socket) => socket.to_owned(),
                Err(error) => return Some(Err(error)),
            },
        };
        let door = Door::Socket(forwarded);
        let refused = match live.pump.open(door.clone()).await? {
            Ok(opened) => {
                self.door.get_or_init(|| door);
                return Some(stream(opened).map_err(|source| live.unprepared(source)));
            }
            Err(refused) => refused,
        };
        if let Some(Door::Socket(socket)) = self.door.get() {
            // It was there before: the daemon is gone, perhaps for the moment of a restart.
            let (address, socket) = (self.address(), socket.into());
            return Some(Err(TransportError::NoDaemon { address, socket }));
        }
        tracing::debug!(host = live.hostname, %refused, "no forwarding to the socket: joining it");
        self.join_either_way(live).await
    }

    /// Joins the socket by a command: as the user, then as root.
    async fn join_either_way(&self, live: &Live) -> Option<Result<Box<dyn Io>, TransportError>> {
        let mut first: Option<TransportError> = None;
        for sudo in [false, true] {
            let command = match self.target.join_command(&self.options.remote_program, sudo) {
                Ok(command) => command,
                Err(error) => return Some(Err(error)),
            };
            let error = match self.join(live, &command).await? {
                Ok(stream) => {
                    self.door.get_or_init(|| Door::Command(command));
                    return Some(Ok(stream));
                }
                Err(error) => error,
            };
            // Root may do what the user may not; nothing else is different for root. What `sudo` says against it is
            // no news either.
            let denied = matches!(error, TransportError::Denied { .. });
            first.get_or_insert(error);
            if !denied {
                break;
            }
        }
        match first {
            Some(TransportError::NoVela { host }) => self.why_no_vela(live, host).await.map(Err),
            error => error.map(Err),
        }
    }

    /// Without a `vela` that could tell why the socket was not to be had: an SSH server answers alike that it forwards
    /// nothing, that there is no socket, and that the user may not open it.
    async fn why_no_vela(&self, live: &Live, host: String) -> Option<TransportError> {
        let socket = match self.target.socket() {
            Ok(socket) => socket,
            Err(error) => return Some(error),
        };
        if self.succeeds(live, format!("test -w {socket}")).await? {
            let socket = socket.into();
            return Some(TransportError::ForwardingOff { host, socket });
        }
        if self.succeeds(live, format!("test -e {socket}")).await? {
            let (address, socket) = (self.address(), socket.into());
            return Some(TransportError::Denied { address, socket });
        }
        Some(TransportError::NoVela { host })
    }

    /// Runs a command on the server to its end; nothing if the session is over.
    async fn succeeds(&self, live: &Live, command: String) -> Option<bool> {
        let Ok(opened) = live.pump.open(Door::Command(command)).await? else {
            return Some(false);
        };
        let Ok(mut stream) = UnixStream::from_std(opened.stream) else {
            return Some(false);
        };
        // Dropped earlier, the stream would close the command before it has told its status.
        if let Err(error) = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await {
            tracing::trace!(%error, "the output of the command ended");
        }
        drop(stream);
        Some(opened.ending.await.ok()?.status == Some(0))
    }

    async fn join(
        &self,
        live: &Live,
        command: &str,
    ) -> Option<Result<Box<dyn Io>, TransportError>> {
        let opened = match live.pump.open(Door::Command(command.to_owned())).await? {
            Ok(opened) => opened,
            Err(source) => {
                let error = TransportError::Join {
                    host: live.hostname.clone(),
                    command: command.to_owned(),
                    detail: source.message,
                };
                return Some(Err(error));
            }
        };
        let Opened { stream, ending } = opened;
        let mut stream = match UnixStream::from_std(stream) {
            Ok(stream) => stream,
            Err(source) => return Some(Err(live.unprepared(source))),
        };
        let address = self.address();
        let error = match read_word(&mut stream).await {
            Ok(Word::Ready) => return Some(Ok(Box::new(stream))),
            Ok(Word::Absent(socket)) => TransportError::NoDaemon { address, socket },
            Ok(Word::Denied(socket)) => TransportError::Denied { address, socket },
            Ok(Word::Silent) | Err(_) => {
                drop(stream);
                why_silent(&live.hostname, command, &ending.await.ok()?)
            }
        };
        Some(Err(error))
    }
}

#[async_trait]
impl Transport for Ssh2Transport {
    async fn connect(&self) -> Result<Box<dyn Io>, TransportError> {
        let mut held = self.session.lock().await;
        if let Some(live) = held.clone() {
            // Others may open channels meanwhile.
            drop(held);
            if let Some(result) = self.enter(&live).await {
                return result;
            }
            held = self.session.lock().await;
            // Unless somebody else has made a new one meanwhile.
            if held.as_ref().is_some_and(|now| Arc::ptr_eq(now, &live)) {
                *held = None;
            }
        }
        let live = match held.clone() {
            Some(live) => live,
            None => Arc::clone(held.insert(self.log_in().await?)),
        };
        drop(held);
        self.enter(&live).await.unwrap_or_else(|| {
            let source = SshError {
                code: 0,
                message: "the session ended".into(),
            };
            let host = live.hostname.clone();
            Err(TransportError::Lost { host, source })
        })
    }

    fn address(&self) -> String {
        self.target.to_string()
    }
}

impl fmt::Debug for Ssh2Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssh2Transport")
            .field("target", &self.target)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Live {
    fn unprepared(&self, source: io::Error) -> TransportError {
        TransportError::Local {
            host: self.hostname.clone(),
            source,
        }
    }
}

fn stream(opened: Opened) -> io::Result<Box<dyn Io>> {
    Ok(Box::new(UnixStream::from_std(opened.stream)?))
}
