use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use uuid::Uuid;
use vela_protocol::{ApiError, ErrorCode, InProgress, Report};
use vela_services::ServiceError;

use crate::env::place;
use crate::maintenance::InvalidMaintenance;

/// A file of the daemon's state that could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StateError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
        let path = path.to_owned();
        move |source| StateError::Io { path, source }
    }

    pub(crate) fn damaged(
        path: &Path,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> StateError {
        StateError::Damaged {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Why the engine could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another daemon works on the data directory.
    #[error("{} is in use by another daemon{}", data_dir.display(), pid.map(|pid| format!(", process {pid}")).unwrap_or_default())]
    Locked {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// A file or directory could not be read or made.
    #[error("could not prepare the data directory")]
    State(#[source] StateError),
    /// The processes that outlived the last daemon could not be found.
    #[error("could not adopt the running processes")]
    Adopt(#[source] vela_supervisor::SupervisorError),
}

impl OpenError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            OpenError::Locked { .. } => {
                Some("stop that daemon first (`systemctl stop vela`), or give this one another `data_dir`".to_owned())
            }
            _ => None,
        }
    }
}

/// Why a request to the engine was refused. What goes wrong after a request was accepted is an event of its
/// operation instead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The app's name is not one.
    #[error("invalid app name {name:?}")]
    AppName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No app of that name was ever deployed.
    #[error("there is no app `{app}`")]
    NoSuchApp {
        /// The name.
        app: String,
    },
    /// The manifest does not parse.
    #[error("the manifest is invalid")]
    Manifest {
        /// Every problem in it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The manifest is another app's.
    #[error("the manifest names the app `{manifest}`, the request `{app}`")]
    OtherApp {
        /// The app of the request.
        app: String,
        /// The app of the manifest.
        manifest: String,
    },
    /// The manifest asks for what this version cannot do.
    #[error("`{key}` cannot be deployed by this version of vela")]
    NotYetDeployable {
        /// The key.
        key: String,
        /// Why.
        why: String,
    },
    /// The digest is not one.
    #[error("{sha256:?} is not a SHA-256")]
    Digest {
        /// What was given.
        sha256: String,
    },
    /// A value of `[env]`, or of another place in the manifest, refers to a secret that is not set.
    #[error("{} needs the secret `{secret}`, which is not set", place(variable))]
    UnsetSecret {
        /// The variable.
        variable: String,
        /// The secret.
        secret: String,
        /// The app.
        app: String,
    },
    /// A secret's name is not one of an environment variable, or is one that Vela sets.
    #[error("invalid secret name {name:?}")]
    SecretName {
        /// The name.
        name: String,
    },
    /// No such secret.
    #[error("there is no secret `{name}`")]
    NoSuchSecret {
        /// The name.
        name: String,
    },
    /// An app can't be maintained as it was asked for.
    #[error("the maintenance can't be as it is asked for")]
    Maintenance(#[source] InvalidMaintenance),
    /// Another app has the host name.
    #[error("the domain {host} belongs to the app `{by}`")]
    HostTaken {
        /// The host name, with the path if that is not all of it.
        host: String,
        /// The app that has it.
        by: String,
    },
    /// The strategy needs what the stack's router cannot do.
    #[error(
        "the router of this server cannot park requests, which the strategy `{strategy}` needs"
    )]
    CannotPark {
        /// The strategy.
        strategy: String,
    },
    /// Another operation holds the app.
    #[error("`{app}` is busy: {} by {} since {}", holder.operation.as_str(), holder.by, holder.since)]
    Busy {
        /// The app.
        app: String,
        /// The operation that holds it.
        holder: Box<InProgress>,
    },
    /// There is no operation to cancel or attach to.
    #[error("no operation of `{app}` is in progress")]
    NothingToCancel {
        /// The app.
        app: String,
    },
    /// The operation has switched the traffic: it will be finished.
    #[error("the operation of `{app}` is past the point where it can be undone")]
    TooLateToCancel {
        /// The app.
        app: String,
    },
    /// No operation has that id.
    #[error("there is no operation {deploy}")]
    NoSuchDeploy {
        /// The id.
        deploy: Uuid,
    },
    /// No release has that id, or its files are gone.
    #[error("`{app}` has no release {release}")]
    NoSuchRelease {
        /// The app.
        app: String,
        /// The release.
        release: String,
    },
    /// The release was not built here, or its build's log is gone.
    #[error("`{app}` has no build log{}", release.as_ref().map(|release| format!(" of {release}")).unwrap_or_default())]
    NoBuildLog {
        /// The app.
        app: String,
        /// The release, if one was asked for.
        release: Option<String>,
    },
    /// There is nothing to go back to.
    #[error("`{app}` has no earlier release to roll back to")]
    NoPreviousRelease {
        /// The app.
        app: String,
    },
    /// The release is current already.
    #[error("{release} is the current release of `{app}` already")]
    AlreadyCurrent {
        /// The app.
        app: String,
        /// The release.
        release: String,
    },
    /// The app was never deployed, so there is nothing to restart.
    #[error("`{app}` has no release to run")]
    NoRelease {
        /// The app.
        app: String,
    },
    /// The artifact was not uploaded, or another operation took it.
    #[error("there is no upload {id}")]
    NoSuchUpload {
        /// The upload's id.
        id: Uuid,
    },
    /// The body of an upload broke off.
    #[error("the upload {id} was cut")]
    UploadCut {
        /// The upload's id.
        id: Uuid,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// All waiting uploads together are larger than the quota.
    #[error("the upload {id} exceeds the quota of {} GiB", quota >> 30)]
    UploadQuota {
        /// The upload's id.
        id: Uuid,
        /// The quota in bytes.
        quota: u64,
    },
    /// An upload could not be written.
    #[error("could not store the upload {id}")]
    UploadFailed {
        /// The upload's id.
        id: Uuid,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the daemon's state could not be read or written.
    #[error("the state of the app could not be read or written")]
    State(#[from] StateError),
    /// The release store failed.
    #[error("the releases of the app could not be read")]
    Store(#[source] vela_release::ReleaseError),
    /// The route of the app could not be changed.
    #[error("the route of the app could not be changed")]
    Route(#[source] vela_proxy::RouteError),
    /// A service could not be asked, or an app's part of it not be taken away.
    #[error("the service `{kind}` failed")]
    Service {
        /// The kind of service.
        kind: String,
        /// Why.
        #[source]
        source: Box<ServiceError>,
    },
    /// The app has nothing of a service that its release asks for: its removal has begun, or its record is lost.
    #[error("`{app}` has nothing of the service `{kind}` now")]
    NotProvisioned {
        /// The kind of service.
        kind: String,
        /// The app.
        app: String,
    },
    /// No server of a service has that name or kind.
    #[error("there is no service `{server}`")]
    NoSuchService {
        /// What was asked for.
        server: String,
    },
    /// The kind of service has more than one server.
    #[error("there are several servers of `{kind}`: {}", servers.join(", "))]
    SeveralServers {
        /// The kind.
        kind: String,
        /// Their names.
        servers: Vec<String>,
    },
    /// Nobody obtains certificates on this server.
    #[error("this server obtains no certificates, so there is none of `{app}` to renew")]
    ObtainsNoCertificates {
        /// The app.
        app: String,
    },
    /// Nothing was obtained for the app.
    #[error("`{app}` needs no certificate of its own")]
    NothingToRenew {
        /// The app.
        app: String,
    },
    /// The authority has not answered yet.
    #[error("the certificate of `{app}` is not there yet")]
    RenewalTakesLong {
        /// The app.
        app: String,
    },
    /// The operation could not even be recorded, so nothing was done.
    #[error("`{app}` could not be worked on")]
    Prepare {
        /// The app.
        app: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

impl EngineError {
    /// The kind of failure, for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            EngineError::AppName { .. }
            | EngineError::Manifest { .. }
            | EngineError::OtherApp { .. }
            | EngineError::NotYetDeployable { .. }
            | EngineError::Digest { .. }
            | EngineError::UnsetSecret { .. }
            | EngineError::SecretName { .. }
            | EngineError::Maintenance(_)
            | EngineError::CannotPark { .. } => ErrorCode::Invalid,
            EngineError::NoSuchApp { .. }
            | EngineError::NoSuchSecret { .. }
            | EngineError::NothingToCancel { .. }
            | EngineError::NoSuchDeploy { .. }
            | EngineError::NoSuchRelease { .. }
            | EngineError::NoBuildLog { .. }
            | EngineError::NoSuchUpload { .. }
            | EngineError::NoSuchService { .. } => ErrorCode::NotFound,
            EngineError::HostTaken { .. }
            | EngineError::TooLateToCancel { .. }
            | EngineError::NoPreviousRelease { .. }
            | EngineError::AlreadyCurrent { .. }
            | EngineError::SeveralServers { .. }
            | EngineError::ObtainsNoCertificates { .. }
            | EngineError::NothingToRenew { .. }
            | EngineError::NotProvisioned { .. }
            | EngineError::NoRelease { .. } => ErrorCode::Conflict,
            EngineError::Busy { .. } => ErrorCode::Busy,
            EngineError::UploadQuota { .. } => ErrorCode::TooLarge,
            EngineError::UploadFailed { source, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                ErrorCode::TooLarge
            }
            EngineError::UploadCut { .. } => ErrorCode::Invalid,
            EngineError::Stopping | EngineError::RenewalTakesLong { .. } => ErrorCode::Unavailable,
            EngineError::UploadFailed { .. }
            | EngineError::State(_)
            | EngineError::Prepare { .. }
            | EngineError::Service { .. }
            | EngineError::Store(_)
            | EngineError::Route(_) => ErrorCode::Internal,
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            EngineError::NoSuchApp { .. } => "`vela apps` lists the apps of the server".to_owned(),
            EngineError::NotYetDeployable { why, .. } => why.clone(),
            EngineError::UnsetSecret { secret, app, .. } => {
                format!("set it with `vela secret set --app {app} {secret}`")
            }
            EngineError::SecretName { .. } => {
                "a name has letters, digits and `_`, starts with no digit, and is not PORT or VELA_*".to_owned()
            }
            EngineError::HostTaken { by, .. } => {
                format!("choose another domain or `path`, or remove that app with `vela remove {by}`")
            }
            EngineError::Busy { app, .. } => {
                format!("wait for it, or stop it with `vela cancel {app}`")
            }
            EngineError::NoSuchRelease { app, .. } | EngineError::NoPreviousRelease { app } => {
                format!("`vela releases {app}` lists what there is")
            }
            EngineError::NoBuildLog { .. } => {
                "only what `[build] remote = true` builds on the server has one".to_owned()
            }
            EngineError::AlreadyCurrent { app, .. } => {
                format!("`vela restart {app}` starts it anew")
            }
            EngineError::NotProvisioned { app, .. } => {
                format!("unless it is being removed, `vela restart {app}` provisions it again")
            }
            EngineError::NoRelease { .. } => "deploy it first with `vela deploy`".to_owned(),
            EngineError::TooLateToCancel { app } => {
                format!("`vela rollback {app}` goes back to the release before")
            }
            EngineError::UploadQuota { .. } => "wait until the other deploys have taken their uploads".to_owned(),
            EngineError::UploadFailed { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room on the file system of the server's data directory".to_owned()
            }
            EngineError::Service { source, .. } => return source.hint(),
            EngineError::Maintenance(source) => return source.hint(),
            EngineError::NoSuchService { .. } => "`vela services list` lists them".to_owned(),
            EngineError::ObtainsNoCertificates { .. } => "set `acme_email` in [tls] of server.toml".to_owned(),
            EngineError::NothingToRenew { .. } => {
                "its hosts have certificates that are given as files, or it has none: see `vela certs list`".to_owned()
            }
            EngineError::RenewalTakesLong { app } => {
                format!("it goes on: `vela certs show {app}` tells what comes of it")
            }
            EngineError::SeveralServers { .. } => "name one of them".to_owned(),
            _ => return None,
        })
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        let mut report = Report::of(&error).with_hint(error.hint());
        if let EngineError::Service { source, .. } = &error {
            report.output = source.output().to_vec();
        }
        ApiError {
            code: error.code(),
            report,
            state: None,
        }
    }
}
