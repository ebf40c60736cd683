//! The calls that have no safe form. All unsafe code of this crate is here.
#![expect(unsafe_code, reason = "each call says why it is sound")]

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use tokio::io::unix::AsyncFd;

use crate::InstanceSpec;

/// Runs a function in the new process where the command would execute its program. The function
/// executes something itself and returns why it could not.
///
/// If this process has other threads, the function must make async-signal-safe calls only: no
/// allocation, no lock.
pub(crate) fn instead_of_exec(
    command: &mut Command,
    mut run: impl FnMut() -> io::Error + Send + Sync + 'static,
) {
    // SAFETY: the contract above is that of `pre_exec`.
    unsafe { command.pre_exec(move || Err(run())) };
}

/// Lets the runtime watch a descriptor.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the same descriptor, for as long as it lives; the `AsyncFd`
    // owns it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Lets every signal do again what it does by default.
///
/// What this program ignores would be ignored after an exec too: INT and QUIT if a shell runs it in the background, HUP
/// under `nohup`.
///
/// Only for a process that is about to execute a program: handlers are gone as well.
pub(crate) fn default_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default is no pointer to a function, and the call is async-signal-safe. Numbers that
        // are nobody's to set, as that of KILL, are refused and stay as they are.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Marks all descriptors but the standard streams as close-on-exec, whoever forgot to.
pub(crate) fn close_all_on_exec() {
    // SAFETY: no pointers are passed, and close-on-exec harms no owner. A kernel before 5.11 refuses;
    // then descriptors that the host program itself leaks are inherited.
    unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
}

/// Closes whatever a careless parent left open beyond the standard streams, so that it is not kept
/// open (a listening port, say) for as long as an instance runs.
///
/// Only for a process that has just started: descriptors that someone owns are closed as well.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: no pointers are passed. That nothing owns these descriptors is the contract of
    // `run_shim`, its only caller.
    let result = unsafe { libc::close_range(3, u32::MAX, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Program, arguments and environment as `execve` wants them.
///
/// Not `Command`'s own exec, which is `execvp`: it runs a file that the kernel refuses as a shell
/// script, and so turns "exec format error", the usual fate of a binary built for another machine,
/// into a syntax error of the shell.
pub(crate) struct Image {
    program: CString,
    argv: CStrings,
    envp: CStrings,
}

/// How long a program is waited for that somebody has open for writing: half a second.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

impl Image {
    pub(crate) fn new(spec: &InstanceSpec) -> io::Result<Self> {
        let program = CString::new(spec.cwd.join(&spec.program).as_os_str().as_bytes())?;
        let name = CString::new(spec.program.as_os_str().as_bytes())?;
        let args = spec.args.iter().map(|arg| CString::new(arg.as_str()));
        let env = spec.env.iter().map(|(name, value)| {
            let value = value.expose_secret();
            // Sized to fit with its NUL, so that no copy of the secret is left behind.
            let mut entry = Vec::with_capacity(name.len() + value.len() + 2);
            entry.extend_from_slice(name.as_bytes());
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            CString::new(entry)
        });
        let argv = std::iter::once(Ok(name))
            .chain(args)
            .collect::<Result<_, _>>()?;
        let envp = env.collect::<Result<_, _>>()?;
        Ok(Self {
            program,
            argv: CStrings::new(argv),
            envp: CStrings::new(envp),
        })
    }

    /// Returns only when it fails. Safe between fork and exec: it allocates nothing.
    pub(crate) fn execute(&self) -> io::Error {
        let mut tries = 0;
        loop {
            // SAFETY: the program is a C string; both arrays end with a null pointer and point to C
            // strings that live as long as `self`.
            unsafe {
                libc::execve(
                    self.program.as_ptr(),
                    self.argv.pointers.as_ptr(),
                    self.envp.pointers.as_ptr(),
                )
            };
            let error = io::Error::last_os_error();
            // A process that was forked while the file was written still has it open, for as long
            // as it takes to become another program.
            if error.raw_os_error() != Some(libc::ETXTBSY) || tries == BUSY_TRIES {
                return error;
            }
            tries += 1;
            std::thread::sleep(BUSY_PAUSE);
        }
    }
}

/// A null-terminated array of C strings, wiped when dropped.
struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead to the heap memory of `strings`, which moves and is shared with them and
// which nothing changes before the drop.
unsafe impl Send for CStrings {}
// SAFETY: as above.
unsafe impl Sync for CStrings {}

impl CStrings {
    fn new(strings: Vec<CString>) -> Self {
        let ends = std::iter::once(ptr::null());
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain(ends)
            .collect();
        Self { strings, pointers }
    }
}

impl Drop for CStrings {
    fn drop(&mut self) {
        for string in self.strings.drain(..) {
            drop(Zeroizing::new(string.into_bytes()));
        }
    }
}
