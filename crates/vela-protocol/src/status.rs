use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppTls, Operation, Report, Step, Stream, Who};

/// One app as `status` and `apps` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// The app's name.
    pub name: String,
    /// Its main host name.
    pub domain: Option<String>,
    /// Further host names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The current release.
    pub release: Option<String>,
    /// The strategy of the current release.
    pub strategy: Option<String>,
    /// What it is doing.
    pub state: AppState,
    /// The process of the first instance.
    pub pid: Option<u32>,
    /// The port of the first instance.
    pub port: Option<u16>,
    /// Whole seconds since the first instance was started.
    pub uptime_seconds: Option<u64>,
    /// `healthy`, `starting`, `crashing`, or nothing while stopped.
    pub health: Option<String>,
    /// How often instances were started again after they died by themselves, since the daemon's start.
    #[serde(default)]
    pub restarts: u64,
    /// Since when and how it is kept from its users, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceStatus>,
    /// Every instance.
    #[serde(default)]
    pub instances: Vec<InstanceStatus>,
    /// How its hosts are served over HTTPS, if HTTPS is served and it has hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<AppTls>,
    /// The operation that holds the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploying: Option<InProgress>,
}

/// An app that is kept from its users, who are answered 503, until that is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceStatus {
    /// Since when.
    pub since: Timestamp,
    /// What they are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ranges of addresses that are served nonetheless.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// What an app is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AppState {
    /// It serves.
    Running,
    /// Its instances are being started, at the daemon's start or after a crash.
    Starting,
    /// It was told to stop.
    Stopped,
    /// It should serve but does not.
    Down,
    /// It was never deployed successfully.
    Empty,
}

impl AppState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            AppState::Running => "running",
            AppState::Starting => "starting",
            AppState::Stopped => "stopped",
            AppState::Down => "down",
            AppState::Empty => "empty",
        }
    }
}

/// One process of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its id.
    pub instance: String,
    /// The release it runs.
    pub release: String,
    /// Its process id.
    pub pid: u32,
    /// Its port.
    pub port: Option<u16>,
    /// Where it listens: `127.0.0.1:10023`, `[::1]:10023`. None from a daemon that does not say.
    pub address: Option<String>,
    /// When it was started.
    pub since: Timestamp,
}

/// The operation that holds an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InProgress {
    /// Its id.
    pub deploy: Uuid,
    /// What it is.
    pub operation: Operation,
    /// Who asked for it.
    pub by: Who,
    /// Since when.
    pub since: Timestamp,
    /// The step it is at.
    pub step: Option<Step>,
}

/// One line of `vela releases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSummary {
    /// The release's id.
    pub release: String,
    /// Where it stands.
    pub status: ReleaseStatus,
    /// The strategy it was deployed with.
    pub strategy: String,
    /// Who deployed it.
    pub user: String,
    /// When.
    pub date: Timestamp,
    /// How long the deploy took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The user's message.
    pub message: Option<String>,
    /// The git revision.
    pub git: Option<String>,
}

/// Where a release stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReleaseStatus {
    /// It is `current`.
    Current,
    /// Kept on disk: a rollback can go there.
    Kept,
    /// It served once; its files are gone.
    Removed,
    /// Its deploy failed.
    Failed,
    /// Its deploy was cancelled.
    Cancelled,
    /// It is being deployed.
    Deploying,
}

impl ReleaseStatus {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseStatus::Current => "current",
            ReleaseStatus::Kept => "kept",
            ReleaseStatus::Removed => "removed",
            ReleaseStatus::Failed => "failed",
            ReleaseStatus::Cancelled => "cancelled",
            ReleaseStatus::Deploying => "deploying",
        }
    }
}

/// One operation as `vela history` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The name of its history file, sortable by time.
    pub id: String,
    /// The operation's id.
    pub deploy: Uuid,
    /// What was done.
    pub operation: Operation,
    /// With which release.
    pub release: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Who asked for it.
    pub by: Who,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The step that failed.
    pub failed_step: Option<Step>,
    /// Why it failed.
    pub error: Option<Report>,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It has not ended.
    Running,
    /// The release serves.
    Succeeded,
    /// It was undone.
    Failed,
    /// It was undone because someone asked for it.
    Cancelled,
}

impl Outcome {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Running => "running",
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// One server that apps share: a line of `vela services list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// What kind of service it is: `postgres`.
    pub kind: String,
    /// The server's name: `postgres-15`.
    pub server: String,
    /// Its version, as far as it is known.
    pub version: Option<String>,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// How often it ended by itself and was started again since the daemon's start.
    pub restarts: u64,
    /// Where it listens.
    pub address: String,
    /// Which apps have something in it.
    pub apps: Vec<ServiceApp>,
}

/// What one app has in a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceApp {
    /// The app.
    pub app: String,
    /// What: the names of its databases, its subjects.
    pub holds: Vec<String>,
    /// Whether the app may use it; one that was removed without its data may not.
    pub active: bool,
}

/// The answer to `GET /v1/apps/{app}/services`: the variables that the app's services give it, passwords among them.
/// Has no `Debug`, for it holds secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCredentials {
    /// By kind of service, then by the variable's name.
    pub kinds: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

/// One line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// To which stream.
    pub stream: Stream,
    /// The line without its end.
    pub text: String,
}

/// The answer to `GET /v1/apps/{app}/secrets`: names only, never values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretNames {
    /// The newest version; 0 when there never was a secret.
    pub version: u64,
    /// The names in it.
    pub names: Vec<String>,
}

/// The answer to `GET /v1/stats`: what the router has done since the daemon's start, and does now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterStats {
    /// Requests, those refused included.
    pub requests: u64,
    /// Requests sent to an instance a second time, because that was safe.
    pub retries: u64,
    /// Requests that are held while their app has no instance.
    pub parked_now: u64,
    /// Requests that were ever held.
    pub parked_total: u64,
    /// Failures of instances: refused or lost connections, timeouts, malformed responses.
    pub upstream_errors: u64,
    /// Client connections open now.
    pub connections: u64,
    /// Requests and tunnels in flight now.
    pub in_flight: u64,
}
