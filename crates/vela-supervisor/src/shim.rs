use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use jiff::Timestamp;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::DumpableBehavior;
use secrecy::zeroize::Zeroizing;
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::child::{self, BeforeExec};
use crate::keeper::{Keeper, Role, SignalPipe};
use crate::kernel;
use crate::logs::LogWriter;
use crate::process::{Process, boot_id};
use crate::run_dir::{RunDir, write_at};
use crate::wire::{self, Report, StartFailure, StartRequest, State, Step};
use crate::{InstanceSpec, Signal};

/// More than the kernel allows for arguments and environment together.
const LARGEST_REQUEST: u64 = 16 << 20;

/// The body of the shim: the parent of one instance, which it outlives by an instant.
///
/// A host program calls it from a hidden subcommand, which it names to
/// [`ShimSupervisor::open`](crate::ShimSupervisor::open), and returns what it returns. It must be
/// called before the program opens any file or starts any thread: every descriptor beyond the
/// standard streams is closed. On standard input it expects what a `ShimSupervisor` sends; started
/// by hand it says so and fails.
#[must_use]
pub fn run_shim() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the `lock` file, where the supervisor looks for last words.
            match writeln!(io::stderr(), "the shim failed: {error}") {
                Ok(()) => ExitCode::FAILURE,
                Err(_) => ExitCode::from(2),
            }
        }
    }
}

fn run() -> io::Result<()> {
    kernel::close_inherited()?;
    let (peer, listener) = streams()?;
    isolate()?;
    let request = receive(&peer)?;
    let run_dir = RunDir::open(request.run_dir.clone())?;
    if is_gone(&peer)? {
        // The next one may have found this directory without a `state`, and left it alone.
        return Err(io::Error::new(
            io::ErrorKind::BrokenPipe,
            "the supervisor was gone before its instance was started",
        ));
    }
    let started = start(request.into_spec(), &run_dir, peer.try_clone()?, listener);
    let mut keeper = match started {
        Ok(keeper) => keeper,
        Err(failure) => return (&peer).write_all(&wire::encode(&Report::Failed(failure))?),
    };
    drop(peer);
    let exit = keeper.run();
    // Told all the same if the disk is full: the supervisor that listens needs no file.
    let written = run_dir.write("exit", &exit);
    keeper.tell(exit);
    written
}

/// Standard input is the first control connection, standard output the listener for later ones.
/// Both make way for `/dev/null`.
fn streams() -> io::Result<(UnixStream, UnixListener)> {
    let peer = io::stdin().as_fd().try_clone_to_owned()?;
    let listener = io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((peer.into(), listener.into()))
}

/// A session of its own, no directory held, nothing for a debugger of the same user to read.
fn isolate() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::thread::set_name(c"vela-shim")?;
    Ok(())
}

fn receive(peer: &UnixStream) -> io::Result<StartRequest> {
    let mut line = Zeroizing::new(Vec::new());
    // A small buffer: what follows the line belongs to the keeper, and a supervisor sends nothing
    // before it was answered.
    BufReader::new(peer.take(LARGEST_REQUEST)).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    wire::decode(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A supervisor says nothing before it was answered: there is nothing to be read but the end.
fn is_gone(peer: &UnixStream) -> io::Result<bool> {
    let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(peer, &mut [0; 1], look) {
        Ok((read, _)) => Ok(read == 0),
        Err(Errno::AGAIN) => Ok(false),
        Err(Errno::CONNRESET) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn start(
    spec: InstanceSpec,
    run_dir: &RunDir,
    peer: UnixStream,
    listener: UnixListener,
) -> Result<Keeper, StartFailure> {
    let setup = |error: io::Error| StartFailure::new(Step::Setup, &error);
    let signals = signals().map_err(setup)?;
    listener.set_nonblocking(true).map_err(setup)?;
    let log = LogWriter::open(spec.log.clone())
        .map_err(|error| StartFailure::new(Step::OpenLog, &error))?;
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let mut state = State {
        id: spec.id.clone(),
        labels: spec.labels.clone(),
        boot_id: boot_id().map_err(setup)?,
        shim: Some(Process::of_pid(me).map_err(setup)?),
        main: Process { pid: 0, start: 0 },
        started_at: Timestamp::now(),
        port: spec.port,
        spares: spec.spares.clone(),
    };
    // Written by the new process itself, as its last act with our rights: the program cannot run
    // without a state that says so, whoever is killed when.
    let announce: BeforeExec = {
        let dir = run_dir.descriptor().map_err(setup)?;
        let mut state = state.clone();
        Box::new(move || {
            state.main = Process::of_pid(rustix::process::getpid().as_raw_nonzero().get())?;
            write_at(&dir, "state", &state)
        })
    };
    let child = child::spawn(&spec, Some(announce))?;
    drop(spec); // wipes the secrets
    state.main = child.process;
    let role = Role::Shim { signals, listener };
    Ok(Keeper::new(child, state, log, role, peer))
}

/// Handlers, even for signals that the host program ignores: the instance starts with the defaults.
fn signals() -> io::Result<SignalPipe> {
    let (read, write) = UnixStream::pair()?;
    let signals = Signal::forwarded()
        .map(|signal| signal.raw().as_raw())
        .chain([SIGCHLD]);
    SignalPipe::with_pipe(read, write, SignalOnly, signals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_died_is_noticed_whatever_it_had_sent() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(!is_gone(&theirs).unwrap());
        drop(ours);
        assert!(is_gone(&theirs).unwrap());

        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(b"unread").unwrap();
        drop(ours);
        assert!(is_gone(&theirs).unwrap());
    }
}
