use std::collections::BTreeMap;

use secrecy::SecretString;

/// What is asked of a service. Each kind reads what concerns it, and refuses what it can't do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ServiceSpec {
    /// Where a service that exists already is found, with its credentials.
    pub url: Option<SecretString>,
    /// The version to run: a major version of Postgres, the least version of NATS.
    pub version: Option<String>,
    /// The databases to create; one of the owner's name when empty.
    pub databases: Vec<String>,
    /// The extensions to create in each of them.
    pub extensions: Vec<String>,
    /// The subjects that the owner may use, beside those that start with its name.
    pub subjects: Vec<String>,
    /// Whether messages are kept on disk, and how many.
    pub jetstream: Option<JetStream>,
    /// What other kinds are told: whatever the host program takes from its user.
    pub options: BTreeMap<String, String>,
}

/// How much an owner may keep in JetStream. Nothing set is a default of the provisioner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JetStream {
    /// Bytes on disk.
    pub max_storage: Option<u64>,
    /// Bytes in memory.
    pub max_memory: Option<u64>,
}

impl ServiceSpec {
    /// A service that exists already, at `url`.
    #[must_use]
    pub fn existing(url: SecretString) -> Self {
        Self {
            url: Some(url),
            ..Self::default()
        }
    }
}
