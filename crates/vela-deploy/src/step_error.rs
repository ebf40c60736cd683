use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use vela_health::{InvalidHttpProbe, ProbeError};
use vela_manifest::NoBuildCommand;
use vela_protocol::{Hook, Report};
use vela_proxy::{ErrorPagesError, RouteError};
use vela_release::{EntrypointError, PackError, ReleaseError};
use vela_services::ServiceError;
use vela_supervisor::{ExitStatus, SupervisorError};

use crate::elsewhere;
use crate::env::UnsetSecret;
use crate::error::StateError;
use crate::task::TaskError;

/// Why a step failed.
#[derive(Debug, Error)]
pub(crate) enum StepError {
    #[error("the operation was cancelled")]
    Cancelled,
    #[error("the release could not be stored")]
    Store(#[source] ReleaseError),
    #[error("the release has no usable entrypoint")]
    Entrypoint(#[source] EntrypointError),
    #[error("the state of the app could not be written")]
    State(#[from] StateError),
    #[error("the app's user could not be had")]
    User(#[source] vela_supervisor::users::UserError),
    #[error("{} belongs to the user id {owner}, and the app is to run as {user}", data.display())]
    OtherUser {
        data: PathBuf,
        owner: u32,
        user: String,
    },
    #[error("the environment could not be built")]
    Env(#[from] UnsetSecret),
    #[error("the service `{kind}` could not be provisioned")]
    Service {
        kind: String,
        #[source]
        source: Box<ServiceError>,
    },
    #[error("this server provisions no `{kind}`")]
    NoProvisioner { kind: String },
    #[error("the services `{}` and `{}` both give the variable {variable}", kinds[0], kinds[1])]
    ServiceClash {
        variable: String,
        kinds: [String; 2],
    },
    #[error("a socket in {} would have too long a path", dir.display())]
    SocketPath { dir: PathBuf },
    #[error("what is left at the socket {} could not be removed", path.display())]
    OldSocket {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no port could be reserved")]
    Port(#[source] vela_supervisor::PortsError),
    #[error("the instance could not be started")]
    Start(#[source] SupervisorError),
    #[error("the instance could not be stopped")]
    Stop(#[source] SupervisorError),
    #[error("the instance {exit} before it was healthy", exit = .status)]
    Exited {
        status: ExitStatus,
        output: Vec<String>,
    },
    #[error("the instance {exit} before the traffic was switched", exit = .status)]
    Died {
        status: ExitStatus,
        output: Vec<String>,
    },
    #[error("the instance was not healthy after {attempts} attempts in {:.1} s", after.as_secs_f64())]
    Unhealthy {
        attempts: u32,
        after: Duration,
        #[source]
        last: Box<ProbeError>,
        /// What the instance was told to listen on.
        port: u16,
        /// What it listens on.
        listening: Vec<SocketAddr>,
        output: Vec<String>,
    },
    #[error("the health probe is not one")]
    Probe(#[from] InvalidHttpProbe),
    #[error("other processes listen on each port that the instance was given (last {port}{})", pid.map(|pid| format!(", process {pid}")).unwrap_or_default())]
    PortTaken { port: u16, pid: Option<u32> },
    #[error("the hook {hook} {status}")]
    Hook {
        hook: Hook,
        status: ExitStatus,
        output: Vec<String>,
    },
    #[error("the hook {hook} did not end within {} s", limit.as_secs())]
    HookTimedOut {
        hook: Hook,
        limit: Duration,
        output: Vec<String>,
    },
    #[error("the hook {hook} could not be started")]
    HookStart {
        hook: Hook,
        #[source]
        source: TaskError,
    },
    #[error("the source could not be brought into the build directory")]
    Source(#[source] ReleaseError),
    #[error("the server can't tell how to build")]
    NoBuildCommand(#[source] NoBuildCommand),
    #[error("the build {status}")]
    Build {
        status: ExitStatus,
        output: Vec<String>,
    },
    #[error("the build did not end within {} s", limit.as_secs())]
    BuildTimedOut {
        limit: Duration,
        output: Vec<String>,
    },
    #[error("the build could not be started")]
    BuildStart(#[source] TaskError),
    #[error("the build left nothing at `{output}`: {}", found_instead(near, found))]
    NoOutput {
        output: String,
        near: PathBuf,
        found: Vec<String>,
    },
    #[error("what was built could not be packed")]
    Pack(#[source] PackError),
    #[error("the error pages could not be read")]
    ErrorPages(#[source] ErrorPagesError),
    #[error("the error pages `{dir}` are not inside the release")]
    ErrorPagesOutside { dir: String },
    #[error("the route could not be changed")]
    Route(#[source] RouteError),
    #[cfg(feature = "test-util")]
    #[error(transparent)]
    Injected(#[from] crate::failpoint::Injected),
}

impl StepError {
    /// The error as events carry it.
    pub(crate) fn report(&self) -> Report {
        let mut report = Report::of(self).with_hint(self.hint());
        report.output = match self {
            StepError::Exited { output, .. }
            | StepError::Died { output, .. }
            | StepError::Unhealthy { output, .. }
            | StepError::Hook { output, .. }
            | StepError::HookTimedOut { output, .. }
            | StepError::Build { output, .. }
            | StepError::BuildTimedOut { output, .. } => output.clone(),
            StepError::Service { source, .. } => source.output().to_vec(),
            _ => Vec::new(),
        };
        report
    }

    fn hint(&self) -> Option<String> {
        match self {
            StepError::Store(source) | StepError::Source(source) => source.hint(),
            StepError::Entrypoint(source) => source.hint(),
            StepError::Start(source) => source.hint(),
            StepError::Service { source, .. } => source.hint(),
            StepError::Env(UnsetSecret { secret, .. }) => {
                Some(format!("set it with `vela secret set {secret}`"))
            }
            StepError::Unhealthy {
                last,
                port,
                listening,
                ..
            } => match &**last {
                ProbeError::Connect { addr, .. } => Some(elsewhere::hint(*port, addr, listening)),
                last => last.hint(),
            },
            StepError::HookTimedOut { .. } => {
                Some("raise `hook_timeout` in [deploy], or make the hook faster".to_owned())
            }
            StepError::NoBuildCommand(source) => Some(source.hint()),
            StepError::Build { status: ExitStatus::Code(127), .. } => Some(
                "what it calls is not installed on the server, or not in its PATH: PATH can be set in [build.env]"
                    .to_owned(),
            ),
            StepError::BuildTimedOut { .. } => {
                Some("raise `timeout` in [build], or make the build faster".to_owned())
            }
            StepError::NoOutput { .. } => {
                Some("name the file or directory that is the release: `output` in [build]".to_owned())
            }
            StepError::Pack(source) => source.hint(),
            StepError::ErrorPages(source) => source.hint(),
            StepError::OtherUser { data, user, .. } => Some(format!(
                "stop the app, give {} and all in it to {user}, and deploy again",
                data.display()
            )),
            StepError::SocketPath { .. } => Some(
                "it may have 106 bytes: choose a shorter `data_dir` in server.toml, or a shorter name for the app"
                    .to_owned(),
            ),
            StepError::PortTaken { .. } => {
                Some("free ports of the range in server.toml, or choose another range".to_owned())
            }
            _ => None,
        }
    }
}

fn found_instead(near: &Path, found: &[String]) -> String {
    match found {
        [] => format!("there is nothing in `{}`", near.display()),
        found => format!("in `{}` there is {}", near.display(), found.join(", ")),
    }
}
