use std::io;
use std::path::PathBuf;

use crate::InstanceId;

/// Why a supervisor could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// The spec itself makes no sense.
    #[error("the spec of instance {id} is invalid: {problem}")]
    InvalidSpec {
        /// Whose spec.
        id: InstanceId,
        /// What is wrong.
        problem: String,
    },
    /// The id lives already.
    #[error("instance {id} already exists")]
    AlreadyExists {
        /// The id.
        id: InstanceId,
    },
    /// The id was never known here.
    #[error("there is no instance {id}")]
    NotFound {
        /// The id.
        id: InstanceId,
    },
    /// The program could not be executed.
    #[error("cannot execute {}", program.display())]
    NotExecutable {
        /// The program file.
        program: PathBuf,
        /// What `execve` said.
        source: io::Error,
    },
    /// The working directory could not be entered by the instance's user.
    #[error("cannot enter the working directory {}", path.display())]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process could not become the user.
    #[error("cannot switch to the user {user}")]
    SwitchUser {
        /// The user's name.
        user: String,
        /// What the system said.
        source: io::Error,
    },
    /// The log file could not be opened.
    #[error("cannot open the log {}", path.display())]
    OpenLog {
        /// The log file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new process could not be set up.
    #[error("cannot start a process for instance {id} ({step})")]
    Spawn {
        /// Which instance.
        id: InstanceId,
        /// The step that failed.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The shim could not be started.
    #[error("cannot start the shim {}", program.display())]
    StartShim {
        /// The shim's program file.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The shim ended or fell silent before it had started the instance.
    #[error("the shim of instance {id} failed: {said}")]
    ShimFailed {
        /// Which instance.
        id: InstanceId,
        /// Its last words.
        said: String,
    },
    /// A process survived `SIGKILL`, so that the instance has not ended.
    #[error("instance {id} cannot be killed")]
    Unkillable {
        /// Which instance.
        id: InstanceId,
    },
    /// Another supervisor works in the run directory.
    #[error("the run directory {} is in use by another process", path.display())]
    RunDirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The run directory, or an instance's directory in it, failed.
    #[error("cannot use the run directory {}", path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SupervisorError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotExecutable { program, source } => exec_hint(program, source),
            Self::SwitchUser { user, .. } if !rustix::process::geteuid().is_root() => {
                Some(format!("only root can run instances as {user}"))
            }
            Self::RunDirInUse { .. } => {
                Some("stop the other one, or use another directory".to_owned())
            }
            Self::Unkillable { .. } => Some(
                "one of its processes is frozen, or stuck in the kernel (`ps` shows a D)".into(),
            ),
            _ => None,
        }
    }
}

fn exec_hint(program: &std::path::Path, source: &io::Error) -> Option<String> {
    let errno = source.raw_os_error()?;
    if errno == libc::ENOEXEC {
        Some("it is built for another machine, or is a script without a `#!` line".to_owned())
    } else if errno == libc::ENOENT && program.exists() {
        Some("the file exists, but the interpreter or loader that it names does not".to_owned())
    } else if errno == libc::EACCES {
        Some(format!(
            "check the execute bit: chmod +x {}",
            program.display()
        ))
    } else {
        None
    }
}
