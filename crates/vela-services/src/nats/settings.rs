use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::KIND;
use super::machine;
use super::owner::{Limits, Owner};
use super::record;
use super::version::Version;
use crate::{OwnerName, ServiceError, durable, password, ports};

/// What the server is, for good: programs that run have its address in their environment. One
/// file, 0600.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) port: u16,
    /// Whether somebody was given the address: from then on it stays.
    pub(super) is_given: bool,
    /// Where it says how it is. Every user of the machine can connect there, so what it says is
    /// found under a path that nobody else knows.
    pub(super) monitor_port: u16,
    #[serde(with = "record::secret")]
    monitor_path: SecretString,
    /// Of the user that may do nothing but log in.
    #[serde(with = "record::secret")]
    pub(super) probe_password: SecretString,
    pub(super) probe_hash: String,
    /// What all owners together may keep, in bytes.
    pub(super) max_storage: u64,
    pub(super) max_memory: u64,
    /// What it runs.
    pub(super) program: PathBuf,
    version: String,
}

impl Settings {
    pub(super) fn load(path: &Path) -> Result<Option<Self>, ServiceError> {
        record::load(path)
    }

    pub(super) fn store(&self, path: &Path) -> Result<(), ServiceError> {
        record::store(path, self)
    }

    /// Those of a server that there has not been before, which keeps its data in `dir`.
    pub(super) fn new(dir: &Path) -> Result<Self, ServiceError> {
        let (port, monitor_port) = free_ports(dir)?;
        let probe_password = password::new_password();
        Ok(Self {
            port,
            is_given: false,
            monitor_port,
            monitor_path: password::new_password(),
            probe_hash: record::hash(&probe_password),
            probe_password,
            max_storage: machine::storage(dir)?,
            max_memory: machine::memory(),
            program: PathBuf::new(),
            version: String::new(),
        })
    }

    /// Takes other ports if somebody has taken these meanwhile; says whether that was so.
    pub(super) fn move_away(&mut self, dir: &Path) -> Result<bool, ServiceError> {
        for port in [self.port, self.monitor_port] {
            if !ports::is_free(port).map_err(durable::failed(dir))? {
                (self.port, self.monitor_port) = free_ports(dir)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The version of the program, once there is one.
    pub(super) fn version(&self) -> Option<Version> {
        self.version.parse().ok()
    }

    pub(super) fn monitor_path(&self) -> &str {
        self.monitor_path.expose_secret()
    }

    /// Takes another program; says whether it is another.
    pub(super) fn run(&mut self, program: PathBuf, version: Version) -> bool {
        let is_new = self.program != program || self.version() != Some(version);
        self.program = program;
        self.version = version.to_string();
        is_new
    }

    /// The limits of an owner that names none: sixteen of them fit.
    pub(super) fn default_limits(&self) -> Limits {
        Limits {
            storage: (self.max_storage / 16).min(1 << 30),
            memory: (self.max_memory / 16).min(64 << 20),
        }
    }

    /// Makes sure that what `owner` may keep fits beside what the others may; says whether the
    /// server had to be given more for it.
    pub(super) fn make_room(
        &mut self,
        dir: &Path,
        name: &OwnerName,
        owner: &Owner,
        all: &[(OwnerName, Owner)],
    ) -> Result<bool, ServiceError> {
        let Some(wanted) = owner.jetstream else {
            return Ok(false);
        };
        let others = all
            .iter()
            .filter(|(other, record)| other != name && !record.purging)
            .filter_map(|(_, record)| record.jetstream);
        let (mut storage, mut memory) = (0u64, 0u64);
        for limits in others {
            storage = storage.saturating_add(limits.storage);
            memory = memory.saturating_add(limits.memory);
        }
        let fits = |settings: &Self| {
            (
                storage.saturating_add(wanted.storage) <= settings.max_storage,
                memory.saturating_add(wanted.memory) <= settings.max_memory,
            )
        };
        if fits(self) == (true, true) {
            return Ok(false);
        }
        // The machine may have grown since.
        self.max_storage = self.max_storage.max(machine::storage(dir)?);
        self.max_memory = self.max_memory.max(machine::memory());
        let too_much = |key, wanted, max: u64, taken| {
            Err(ServiceError::Invalid {
                kind: KIND,
                key,
                value: format!("{wanted} bytes"),
                why: if taken < max {
                    "the machine has less than that left for JetStream"
                } else {
                    "the machine has nothing left for JetStream"
                },
            })
        };
        match fits(self) {
            (false, _) => too_much(
                "jetstream.storage",
                wanted.storage,
                self.max_storage,
                storage,
            ),
            (_, false) => too_much("jetstream.memory", wanted.memory, self.max_memory, memory),
            (true, true) => Ok(true),
        }
    }
}

fn free_ports(dir: &Path) -> Result<(u16, u16), ServiceError> {
    let free = || ports::free_port().map_err(durable::failed(dir));
    let port = free()?;
    loop {
        let other = free()?;
        if other != port {
            return Ok((port, other));
        }
    }
}
