use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The answer to `GET /v1/version`, the first thing a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerVersion {
    /// The daemon's version.
    pub version: String,
    /// The words it speaks: [`crate::VERSION`].
    pub protocol: u32,
    /// Where it keeps its state.
    pub data_dir: String,
    /// Its process.
    pub pid: u32,
}

/// The answer to `PUT /v1/uploads/{uuid}`: what the daemon received and holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The upload's id.
    pub upload: Uuid,
    /// Bytes received.
    pub size: u64,
}

/// The body of `POST /v1/apps/{app}/deploys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRequest {
    /// Made by the client: asking twice with the same id attaches to the first.
    pub deploy: Uuid,
    /// The upload that holds the artifact, or the source it is built from.
    pub upload: Uuid,
    /// Whether the upload is source, a tar.gz of a source tree, from which `[build]` of the manifest makes the artifact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub build: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The text of `Vela.toml`: the daemon validates it again.
    pub manifest: String,
    /// The git revision, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
    /// The user's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who the client says it is, such as `alice@laptop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// The body of `POST /v1/apps/{app}/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The operation's id.
    pub deploy: Uuid,
    /// The release to go back to; without one, the last good one before the current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether `pre_start` runs too.
    #[serde(default)]
    pub hooks: bool,
    /// Who the client says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// The body of `POST /v1/apps/{app}/restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRequest {
    /// The operation's id.
    pub deploy: Uuid,
    /// Who the client says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// The body of `POST /v1/apps/{app}/start`: a restart of an app that was stopped.
pub type StartRequest = RestartRequest;

/// The body of `PUT /v1/apps/{app}/maintenance`; `DELETE` of the same ends the maintenance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceRequest {
    /// What the app's users are told: one line of 1 KiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Ranges of addresses that are served nonetheless, as in `10.0.0.0/8`.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// The query of `DELETE /v1/apps/{app}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveRequest {
    /// Whether the app's data, secrets and history go too.
    #[serde(default)]
    pub purge: bool,
}

/// The body of `PATCH /v1/apps/{app}/secrets`. Has no `Debug`, for it holds the values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretChange {
    /// Names and their new values.
    #[serde(default)]
    pub set: std::collections::BTreeMap<String, String>,
    /// Names to remove.
    #[serde(default)]
    pub remove: Vec<String>,
}
