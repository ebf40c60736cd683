use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid};
use rustix::thread::{Gid, Uid};
use secrecy::ExposeSecret;

use crate::InstanceSpec;
use crate::kernel::{self, Image};
use crate::process::Process;
use crate::users::User;
use crate::wire::{StartFailure, Step};

/// So that a report fits into a socket's buffer, however it is escaped.
const LARGEST_LABELS: usize = 8 << 10;

/// A main process that runs its program.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) process: Process,
    pub(crate) pid: Pid,
    /// Readable once the process has ended.
    pub(crate) pidfd: OwnedFd,
    /// Reading ends that do not block.
    pub(crate) out: OwnedFd,
    pub(crate) err: OwnedFd,
}

/// Runs in the new process before it gives up its rights.
pub(crate) type BeforeExec = Box<dyn FnMut() -> io::Result<()> + Send + Sync>;

/// Forks and executes the program of a spec that was [checked](check).
///
/// The new process leads a session of its own and dies with the calling thread. `before_exec` may
/// allocate only if the calling process has a single thread.
pub(crate) fn spawn(
    spec: &InstanceSpec,
    before_exec: Option<BeforeExec>,
) -> Result<Child, StartFailure> {
    let setup = |error: &io::Error| StartFailure::new(Step::Setup, error);
    let (failed, fail) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| setup(&error.into()))?;
    let image = Image::new(spec).map_err(|error| setup(&error))?;
    let mut birth = Birth {
        image,
        before_exec,
        parent: getpid(),
        switch: spec.user.as_ref().and_then(Switch::needed),
        cwd: CString::new(spec.cwd.as_os_str().as_bytes()).map_err(|e| setup(&e.into()))?,
        fail,
    };
    // Command forks, wires the standard streams, resets the signal mask and brings back the error
    // of a failed exec; the environment and the program are those of `Image`.
    let mut command = Command::new(&spec.program);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // `Birth::run` makes bare system calls on memory that was prepared before the fork, but for
    // `before_exec`, which is given by processes of a single thread only.
    kernel::instead_of_exec(&mut command, move || birth.run());
    let spawned = command.spawn();
    drop(command); // closes our copy of `fail`
    let mut child = spawned.map_err(|error| StartFailure::new(failed_step(failed), &error))?;

    watched(&mut child).map_err(|error| {
        // It must not run unseen.
        if child.kill().and_then(|()| child.wait()).is_err() {
            tracing::error!(
                pid = child.id(),
                "cannot kill a process that cannot be watched"
            );
        }
        setup(&error)
    })
}

/// It is our child and not reaped: its pid cannot belong to another process.
fn watched(child: &mut std::process::Child) -> io::Result<Child> {
    let pid = Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let process = Process::of_pid(pid.as_raw_nonzero().get())?;
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let out: OwnedFd = child.stdout.take().ok_or_else(missing)?.into();
    let err: OwnedFd = child.stderr.take().ok_or_else(missing)?.into();
    // Only our ends stop blocking: the two ends of a pipe have flags of their own.
    rustix::io::ioctl_fionbio(&out, true)?;
    rustix::io::ioctl_fionbio(&err, true)?;
    Ok(Child {
        process,
        pid,
        pidfd,
        out,
        err,
    })
}

/// What [`spawn`] cannot express in C strings.
pub(crate) fn check(spec: &InstanceSpec) -> Result<(), String> {
    if !spec.cwd.is_absolute() || !spec.log.path.is_absolute() {
        return Err("the working directory and the log must be absolute paths".to_owned());
    }
    if let Some(name) = spec
        .env
        .keys()
        .find(|name| name.is_empty() || name.contains('='))
    {
        return Err(format!("`{name}` cannot name an environment variable"));
    }
    let values = spec
        .env
        .iter()
        .any(|(_, value)| value.expose_secret().contains('\0'));
    let paths = [&spec.program, &spec.cwd, &spec.log.path];
    if values
        || spec
            .env
            .keys()
            .chain(&spec.args)
            .any(|text| text.contains('\0'))
        || paths
            .iter()
            .any(|path| path.as_os_str().as_bytes().contains(&0))
    {
        return Err("a NUL byte in a path, an argument or the environment".to_owned());
    }
    if paths.iter().any(|path| path.to_str().is_none()) {
        return Err("a path is not UTF-8".to_owned());
    }
    let labels: usize = spec
        .labels
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if labels > LARGEST_LABELS {
        return Err(format!("the labels take more than {LARGEST_LABELS} bytes"));
    }
    if let Some(name) = spec
        .spares
        .iter()
        .find(|name| name.is_empty() || name.contains('/'))
    {
        return Err(format!("`{name}` cannot name a program file to spare"));
    }
    let tag_ok = |tag: &String| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        (1..=64).contains(&tag.len()) && tag.bytes().all(allowed)
    };
    if !spec.log.tag.as_ref().is_none_or(tag_ok) {
        return Err("a log tag must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'".to_owned());
    }
    Ok(())
}

/// What the new process does between fork and exec.
struct Birth {
    image: Image,
    before_exec: Option<BeforeExec>,
    parent: Pid,
    switch: Option<Switch>,
    cwd: CString,
    fail: OwnedFd,
}

impl Birth {
    fn run(&mut self) -> io::Error {
        match self.prepare() {
            Err((step, error)) => self.failed(step, error),
            Ok(()) => {
                let error = self.image.execute();
                self.failed(Step::Execute, error)
            }
        }
    }

    fn prepare(&mut self) -> Result<(), (Step, io::Error)> {
        let at = |step| move |error: rustix::io::Errno| (step, io::Error::from(error));
        kernel::default_signals();
        // Not in the supervisor's group: a signal that the app sends to its group stays inside.
        rustix::process::setsid().map_err(at(Step::Session))?;
        if let Some(before_exec) = &mut self.before_exec {
            before_exec().map_err(|error| (Step::WriteState, error))?;
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        if let Some(switch) = &self.switch {
            switch.apply().map_err(at(Step::SwitchUser))?;
        }
        // After the switch, which clears it. The parent may have died before: look.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(at(Step::DeathSignal))?;
        if getppid() != Some(self.parent) {
            return Err((Step::DeathSignal, io::Error::from_raw_os_error(libc::ESRCH)));
        }
        rustix::process::chdir(self.cwd.as_c_str()).map_err(at(Step::WorkingDirectory))?;
        kernel::close_all_on_exec();
        Ok(())
    }

    /// Tells the parent which step it was; the error goes the way of a failed exec.
    fn failed(&self, step: Step, error: io::Error) -> io::Error {
        match rustix::io::write(&self.fail, &[step as u8]) {
            Ok(_) => error,
            Err(lost) => lost.into(),
        }
    }
}

fn failed_step(failed: OwnedFd) -> Step {
    let mut step = [0];
    match std::fs::File::from(failed).read(&mut step) {
        Ok(1) => Step::from_byte(step[0]).unwrap_or(Step::Fork),
        // The new process never got as far as saying so.
        _ => Step::Fork,
    }
}

/// The identity to take on.
struct Switch {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Switch {
    /// Nothing when the process is that user already and could not change groups anyway.
    fn needed(user: &User) -> Option<Self> {
        let me = rustix::process::geteuid();
        if user.uid == me.as_raw() && !me.is_root() {
            return None;
        }
        let mut groups = vec![Gid::from_raw(user.gid)];
        groups.extend(
            user.groups
                .iter()
                .filter(|g| **g != user.gid)
                .map(|g| Gid::from_raw(*g)),
        );
        Some(Self {
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups,
        })
    }

    /// rustix changes the calling thread only, which in a new process is all there is.
    fn apply(&self) -> rustix::io::Result<()> {
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)
    }
}
