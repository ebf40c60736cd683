use crate::{OwnerName, ServerName};

/// One server that a provisioner runs, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The server.
    pub server: ServerName,
    /// Its version, as far as it is known.
    pub version: Option<String>,
    /// Its main process, while it runs.
    pub pid: Option<u32>,
    /// How often it ended by itself and was started again since the host program started.
    pub restarts: u64,
    /// Where it listens: `127.0.0.1:25432`.
    pub address: String,
    /// Who has something in it, by name.
    pub owners: Vec<OwnerStatus>,
}

/// What one owner has in a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerStatus {
    /// Who.
    pub owner: OwnerName,
    /// What, in words of the kind: the names of databases, the subjects.
    pub holds: Vec<String>,
    /// Whether the owner may use it at the moment; one that was removed without a purge may not.
    pub active: bool,
}
