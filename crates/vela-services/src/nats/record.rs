//! Files of this provisioner's own, that hold secrets.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ServiceError;
use crate::durable;

/// Reads a file that may be missing.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ServiceError> {
    let Some(text) = durable::read(path)? else {
        return Ok(None);
    };
    toml::from_str(&text).map(Some).map_err(|error| {
        // Its own words may quote the file, and with it a password.
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..offset]
            .iter()
            .filter(|&&b| b == b'\n')
            .count();
        ServiceError::Damaged {
            path: path.to_owned(),
            source: format!("line {line} is not as it was written").into(),
        }
    })
}

/// Writes a file, 0600.
pub(super) fn store(path: &Path, record: &impl Serialize) -> Result<(), ServiceError> {
    let text = toml::to_string(record).map_err(|error| ServiceError::Damaged {
        path: path.to_owned(),
        source: error.into(),
    })?;
    durable::write(path, &text, 0o600)
}

/// The hash of a password for the server's configuration.
///
/// The lowest cost is right: it slows down who tries passwords, and these have 190 random bits.
/// Each connection pays for it.
pub(super) fn hash(password: &SecretString) -> String {
    const COST: u32 = 4;
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).expect("the kernel's random numbers never fail");
    bcrypt::hash_with_salt(password.expose_secret(), COST, salt)
        .expect("the cost is allowed")
        .to_string()
}

/// A secret in a file.
pub(super) mod secret {
    use secrecy::{ExposeSecret, SecretString};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        secret: &SecretString,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose_secret())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SecretString, D::Error> {
        String::deserialize(deserializer).map(SecretString::from)
    }
}
