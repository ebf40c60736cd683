use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::StateError;
use crate::maintenance::Maintenance;

/// What the user wants of an app apart from its release: written before it is acted upon, so that a stopped app
/// stays stopped after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Desired {
    /// Whether the app should run.
    pub(crate) running: bool,
    /// The version of the secrets that the instances run with: a crash restart keeps it.
    pub(crate) secrets: u64,
    /// The operation whose instances serve. A restart commits by writing it.
    pub(crate) operation: Option<String>,
    /// Whether a removal began: the next start finishes it.
    pub(crate) removing: Option<Removing>,
    /// Whether the app is kept from its users.
    pub(crate) maintenance: Option<Maintenance>,
}

/// How much of an app a removal takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Removing {
    /// Its data, secrets and history stay.
    Keep,
    /// Everything goes.
    Purge,
}

impl Default for Desired {
    fn default() -> Desired {
        Desired {
            running: true,
            secrets: 0,
            operation: None,
            removing: None,
            maintenance: None,
        }
    }
}

impl Desired {
    /// Reads the file; without one, the default.
    pub(crate) fn read(path: &Path) -> Result<Desired, StateError> {
        match durable::read_optional(path).map_err(StateError::at(path))? {
            None => Ok(Desired::default()),
            Some(text) => toml::from_str(&text).map_err(|source| StateError::damaged(path, source)),
        }
    }

    /// Writes the file durably.
    pub(crate) fn write(&self, path: &Path) -> Result<(), StateError> {
        let text = toml::to_string(self).map_err(|source| StateError::damaged(path, source))?;
        durable::write(path, text.as_bytes(), 0o600).map_err(StateError::at(path))
    }
}
