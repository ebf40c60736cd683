use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitOptions, pidfd_send_signal, wait, waitid, waitpid,
};

use crate::child::Child;
use crate::logs::{LineBuffer, LogStream, LogWriter};
use crate::peer::Peer;
use crate::process::Process;
use crate::tree::{KILL_DEADLINE, Tree};
use crate::wire::{Command, Report, State};
use crate::{Exit, ExitStatus, Signal, Stop};

/// How much of the instance's output is read at a time.
const CHUNK: usize = 64 << 10;

/// More than a pipe can be made to hold.
const LARGEST_PIPE: usize = 4 << 20;

/// Looks after one instance until its whole tree is gone: writes its log, obeys its supervisors,
/// reaps. The body of the shim, and of the thread that stands in for one.
#[derive(Debug)]
pub(crate) struct Keeper {
    main: Pid,
    /// Readable once the main process has ended.
    pidfd: OwnedFd,
    state: State,
    tree: Tree,
    log: LogWriter,
    pipes: [Option<Pipe>; 2],
    role: Role,
    peers: Vec<Peer>,
    stopping: Option<Stopping>,
    ended: Option<ExitStatus>,
}

/// What differs between a process of its own and a thread.
#[derive(Debug)]
pub(crate) enum Role {
    /// A process: subreaper, so everything below it is its to reap; found through a socket.
    Shim {
        signals: SignalPipe,
        listener: UnixListener,
    },
    /// A thread of the host program, whose other children are not ours to reap, and which is told
    /// to end by the end of its only peer.
    Thread,
}

/// Delivers the signals that a shim was sent.
pub(crate) type SignalPipe = signal_hook::iterator::backend::SignalDelivery<
    UnixStream,
    signal_hook::iterator::exfiltrator::SignalOnly,
>;

#[derive(Debug)]
struct Stopping {
    signal: Signal,
    deadline: Instant,
}

impl Stopping {
    fn is_over(&self) -> bool {
        self.deadline <= Instant::now()
    }
}

impl Keeper {
    pub(crate) fn new(
        child: Child,
        state: State,
        log: LogWriter,
        role: Role,
        peer: UnixStream,
    ) -> Self {
        let tree = state.tree();
        let pipes = [(LogStream::Out, child.out), (LogStream::Err, child.err)];
        let pipes = pipes.map(|(stream, fd)| {
            Some(Pipe {
                stream,
                fd,
                lines: LineBuffer::default(),
            })
        });
        let mut keeper = Self {
            main: child.pid,
            pidfd: child.pidfd,
            state,
            tree,
            log,
            pipes,
            role,
            peers: Vec::new(),
            stopping: None,
            ended: None,
        };
        keeper.admit(peer);
        keeper
    }

    /// Until the main process and the rest of its tree have ended, and the log has what they wrote.
    /// Then [`Keeper::tell`] the peers.
    pub(crate) fn run(&mut self) -> Exit {
        while self.ended.is_none() {
            let timeout = self.timeout();
            self.turn(timeout);
            self.reap();
            if self.stopping.as_ref().is_some_and(Stopping::is_over) {
                self.kill_tree();
            }
        }
        let exit = Exit::now(self.ended.unwrap_or(ExitStatus::Unknown));
        self.let_rest_stop();
        self.end_tree();
        self.let_go_of_main();
        // All writers are dead, and what they wrote fits into a pipe. A stranger that was passed
        // the other end may write for ever.
        for index in 0..self.pipes.len() {
            let mut chunks = 0;
            while chunks < LARGEST_PIPE / CHUNK && self.read_pipe(index) {
                chunks += 1;
            }
            if let Some(mut pipe) = self.pipes[index].take() {
                self.log.finish(pipe.stream, &mut pipe.lines);
            }
        }
        exit
    }

    /// The last report.
    pub(crate) fn tell(&mut self, exit: Exit) {
        self.peers
            .retain_mut(|peer| peer.send(&Report::Exited(exit)));
    }

    fn timeout(&self) -> Option<Duration> {
        let stop = self.stopping.as_ref()?;
        let left = stop.deadline.saturating_duration_since(Instant::now());
        // Killed already, and it takes its time: look for new children now and then.
        Some(left.max(Duration::from_millis(if left.is_zero() { 20 } else { 1 })))
    }

    /// Waits for something to happen and handles it.
    fn turn(&mut self, timeout: Option<Duration>) {
        let mut fds = Vec::with_capacity(5 + self.peers.len());
        let interest = PollFlags::IN;
        // Ready for good once the main process has ended.
        if self.ended.is_none() {
            fds.push((Source::Child, PollFd::new(&self.pidfd, interest)));
        }
        // Stdout last, so that it is read first: why a program failed, which stderr says, comes after
        // what it had said before.
        for (index, pipe) in self.pipes.iter().enumerate().rev() {
            if let Some(pipe) = pipe {
                fds.push((Source::Pipe(index), PollFd::new(&pipe.fd, interest)));
            }
        }
        if let Role::Shim { signals, listener } = &self.role {
            fds.push((Source::Signals, PollFd::new(signals.get_read(), interest)));
            fds.push((Source::Listener, PollFd::new(listener, interest)));
        }
        for (index, peer) in self.peers.iter().enumerate() {
            fds.push((Source::Peer(index), PollFd::new(&peer.stream, interest)));
        }
        let (sources, mut fds): (Vec<_>, Vec<_>) = fds.into_iter().unzip();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return,
            Ok(_) => {}
            Err(error) => {
                // Out of memory: breathe, rather than spin or give the instance up.
                tracing::error!(%error, "cannot poll");
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        }
        let ready: Vec<_> = sources
            .into_iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .collect();
        let ready: Vec<_> = ready.into_iter().map(|(source, _)| source).collect();
        // Backwards, so that a peer that leaves does not shift the ones still to come.
        for source in ready.into_iter().rev() {
            self.handle(source);
        }
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Child => {} // `reap` comes after each turn
            Source::Pipe(index) => {
                self.read_pipe(index);
            }
            Source::Signals => self.forward_signals(),
            Source::Listener => {
                if let Role::Shim { listener, .. } = &self.role
                    && let Ok((stream, _)) = listener.accept()
                {
                    self.admit(stream);
                }
            }
            Source::Peer(index) => self.listen_to(index),
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        let greeting = Report::Started(Box::new(self.state.clone()));
        if let Ok(mut peer) = Peer::new(stream)
            && peer.send(&greeting)
        {
            self.peers.push(peer);
        } else if matches!(self.role, Role::Thread) {
            self.stop(Stop::now());
        }
    }

    fn listen_to(&mut self, index: usize) {
        let (commands, alive) = self.peers[index].receive();
        for command in commands {
            match command {
                Command::Stop(stop) => self.stop(stop),
                Command::Signal(signal) => self.signal(signal),
            }
        }
        if !alive {
            self.peers.remove(index);
            if matches!(self.role, Role::Thread) {
                self.stop(Stop::now());
            }
        }
    }

    /// A second stop may hurry the first one; the same signal is not sent twice, as many programs
    /// take the second one for impatience.
    fn stop(&mut self, stop: Stop) {
        let grace = if stop.signal == Signal::Kill {
            Duration::ZERO
        } else {
            stop.grace
        };
        // A grace beyond what the clock can express is for ever.
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let deadline = Instant::now().checked_add(grace).unwrap_or(far);
        let before = self.stopping.take();
        if before
            .as_ref()
            .is_none_or(|before| before.signal != stop.signal)
            && stop.signal != Signal::Kill
        {
            self.signal(stop.signal);
        }
        let deadline = before.map_or(deadline, |before| before.deadline.min(deadline));
        self.stopping = Some(Stopping {
            signal: stop.signal,
            deadline,
        });
    }

    fn signal(&self, signal: Signal) {
        if self.ended.is_none()
            && let Err(error) = pidfd_send_signal(&self.pidfd, signal.raw())
        {
            tracing::debug!(%error, "cannot signal the main process");
        }
    }

    fn forward_signals(&mut self) {
        let Role::Shim { signals, .. } = &mut self.role else {
            return;
        };
        let pending: Vec<_> = signals.pending().collect();
        for signal in Signal::forwarded() {
            if pending.contains(&signal.raw().as_raw()) {
                self.signal(signal);
            }
        }
    }

    /// Reads once; whether there may be more.
    fn read_pipe(&mut self, index: usize) -> bool {
        let Some(pipe) = &mut self.pipes[index] else {
            return false;
        };
        let mut chunk = [0; CHUNK];
        match rustix::io::retry_on_intr(|| rustix::io::read(&pipe.fd, &mut chunk)) {
            Ok(0) => {
                self.log.finish(pipe.stream, &mut pipe.lines);
                self.pipes[index] = None;
                false
            }
            Ok(n) => {
                self.log.write(pipe.stream, &mut pipe.lines, &chunk[..n]);
                true
            }
            Err(rustix::io::Errno::AGAIN) => false,
            Err(_) => {
                self.pipes[index] = None;
                false
            }
        }
    }

    /// Takes the status of the main process, and lets go of orphans that ended. True once there are
    /// no children left, as far as this role can tell.
    fn reap(&mut self) -> bool {
        let main = self.main;
        loop {
            match self.role {
                Role::Shim { .. } => match wait(WaitOptions::NOHANG) {
                    Ok(Some((pid, status))) if pid == main => self.ended = Some(status.into()),
                    Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                    Ok(None) => return false,
                    Err(_) => break,
                },
                Role::Thread if self.ended.is_some() => return false,
                Role::Thread => {
                    // Left a zombie, for its session to be known by, until the rest is gone.
                    let look =
                        WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                    match waitid(WaitId::Pid(main), look) {
                        Ok(Some(status)) => self.ended = Some(status.into()),
                        Err(rustix::io::Errno::INTR) => {}
                        Ok(None) => return false,
                        Err(_) => break,
                    }
                }
            }
        }
        // Somebody else in the host program took the status.
        self.ended.get_or_insert(ExitStatus::Unknown);
        true
    }

    fn let_go_of_main(&self) {
        if matches!(self.role, Role::Thread)
            && let Err(error) = waitpid(Some(self.main), WaitOptions::NOHANG)
        {
            tracing::debug!(%error, "somebody else reaped the main process");
        }
    }

    /// Gives what the main process left behind the rest of the grace, if a stop is under way: that
    /// may be the server itself, below a script that started it without `exec`.
    fn let_rest_stop(&mut self) {
        let mut told = Told::default();
        while let Some(stop) = self.stopping.as_ref().filter(|stop| !stop.is_over()) {
            told.tell(stop.signal, &self.tree);
            if self.is_alone() {
                return;
            }
            let timeout = match self.role {
                Role::Shim { .. } => self.timeout(),
                // They are not our children, whose end would be told: look now and then.
                Role::Thread => self
                    .timeout()
                    .map(|left| left.min(Duration::from_millis(20))),
            };
            self.turn(timeout);
        }
    }

    /// Whether nothing is left of the tree but the main process' remains.
    fn is_alone(&mut self) -> bool {
        let is_empty = |tree: &Tree| tree.members().is_ok_and(|rest| rest.is_empty());
        match self.role {
            // What is spared stays a child.
            Role::Shim { .. } => self.reap() || self.tree.has_spares() && is_empty(&self.tree),
            Role::Thread => is_empty(&self.tree),
        }
    }

    fn kill_tree(&self) {
        self.signal(Signal::Kill);
        if let Err(error) = self.tree.kill() {
            tracing::error!(%error, "cannot list the processes of an instance");
        }
    }

    /// Kills what the main process left behind, and waits for it. What a kill cannot end, a process
    /// stuck in the kernel, is left after a while: there is nothing that could be done about it.
    fn end_tree(&mut self) {
        let deadline = Instant::now() + KILL_DEADLINE;
        let mut found_none = false;
        while !self.reap() && Instant::now() < deadline {
            match self.tree.kill() {
                Ok(0) if matches!(self.role, Role::Thread) => return,
                // The children are spared. Looked for twice, as one look at the process table may
                // miss what is just being forked.
                Ok(0) if self.tree.has_spares() && found_none => return,
                // A shim has children still, if it gets here: zombies about to be reaped.
                Ok(killed) => {
                    found_none = killed == 0;
                    self.turn(Some(Duration::from_millis(2)));
                }
                Err(error) => {
                    tracing::error!(%error, "cannot list the processes of an instance");
                    return;
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Child,
    Pipe(usize),
    Signals,
    Listener,
    Peer(usize),
}

/// Who was sent a stop signal after the main process had ended.
#[derive(Debug, Default)]
struct Told {
    signal: Option<Signal>,
    processes: HashSet<Process>,
}

impl Told {
    /// Sends the signal to everybody; then to those only who were missed, a process that was just
    /// being forked, say. What a member starts afterwards, to clean up perhaps, is its own affair,
    /// for as long as it lives.
    fn tell(&mut self, signal: Signal, tree: &Tree) {
        let members = match tree.living() {
            Ok(members) => members,
            Err(error) => {
                tracing::error!(%error, "cannot list the processes of an instance");
                return;
            }
        };
        let first = self.signal.replace(signal) != Some(signal);
        if first {
            self.processes.clear();
        }
        for member in &members {
            let is_orphan = || {
                members
                    .iter()
                    .all(|other| other.process.pid != member.parent)
            };
            if (first || is_orphan()) && self.processes.insert(member.process) {
                member.process.signal(signal.raw());
            }
        }
    }
}

/// One output stream of the instance.
#[derive(Debug)]
struct Pipe {
    stream: LogStream,
    fd: OwnedFd,
    lines: LineBuffer,
}
