use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::record;
use super::version::Version;
use super::{KIND, subjects};
use crate::durable;
use crate::{JetStream, OwnerName, ServiceError, ServiceSpec};

/// What an owner has: one file, 0600. What it says is what the configuration is made of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owner {
    /// Whether it may log in.
    pub(super) active: bool,
    /// Its data is being deleted, or was when a crash came in between.
    #[serde(default)]
    pub(super) purging: bool,
    #[serde(with = "record::secret")]
    pub(super) password: SecretString,
    /// Of the password, as the server gets it.
    pub(super) password_hash: String,
    /// The least version of the server that it asks for.
    version: Option<String>,
    /// What it asks for beside its own.
    pub(super) subjects: Vec<String>,
    pub(super) jetstream: Option<Limits>,
}

/// What an owner may keep in JetStream, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) storage: u64,
    pub(super) memory: u64,
}

impl Owner {
    /// A new one that has asked for nothing yet.
    pub(super) fn new() -> Self {
        let password = crate::password::new_password();
        Self {
            active: true,
            purging: false,
            password_hash: record::hash(&password),
            password,
            version: None,
            subjects: Vec::new(),
            jetstream: None,
        }
    }

    /// Takes what the owner asks for now; says whether that is anything new. What it does not say
    /// of JetStream's limits stays as it was, or becomes `default`.
    pub(super) fn ask(&mut self, spec: &ServiceSpec, default: Limits) -> bool {
        let jetstream = spec.jetstream.map(|asked: JetStream| {
            let unsaid = self.jetstream.unwrap_or(default);
            Limits {
                storage: asked.max_storage.unwrap_or(unsaid.storage),
                memory: asked.max_memory.unwrap_or(unsaid.memory),
            }
        });
        let is_new = !self.active
            || self.version != spec.version
            || self.subjects != spec.subjects
            || self.jetstream != jetstream;
        self.active = true;
        self.version.clone_from(&spec.version);
        self.subjects.clone_from(&spec.subjects);
        self.jetstream = jetstream;
        is_new
    }

    /// The version that it needs.
    pub(super) fn version(&self) -> Version {
        let asked = self.version.as_deref().and_then(|text| text.parse().ok());
        asked.map_or(Version::LEAST, |asked| Version::LEAST.max(asked))
    }
}

/// The owners of one directory, a file each.
#[derive(Debug)]
pub(super) struct Owners {
    dir: PathBuf,
}

impl Owners {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// All of them, by name.
    pub(super) fn list(&self) -> Result<Vec<(OwnerName, Owner)>, ServiceError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(durable::failed(&self.dir))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(durable::failed(&self.dir))?;
            let name = entry.file_name();
            // What is no owner's is a leftover of a write, or an operator's.
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".toml")) else {
                continue;
            };
            let Ok(name) = OwnerName::parse(name) else {
                continue;
            };
            if let Some(owner) = self.load(&name)? {
                found.push((name, owner));
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    pub(super) fn load(&self, name: &OwnerName) -> Result<Option<Owner>, ServiceError> {
        record::load(&self.file(name))
    }

    pub(super) fn store(&self, name: &OwnerName, owner: &Owner) -> Result<(), ServiceError> {
        record::store(&self.file(name), owner)
    }

    pub(super) fn delete(&self, name: &OwnerName) -> Result<(), ServiceError> {
        durable::remove(&self.file(name))
    }

    fn file(&self, name: &OwnerName) -> PathBuf {
        self.dir.join(format!("{name}.toml"))
    }
}

/// Refuses what this provisioner does not have.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), ServiceError> {
    let invalid = |key, value: &str, why| {
        Err(ServiceError::Invalid {
            kind: KIND,
            key,
            value: value
                .chars()
                .take(80)
                .flat_map(char::escape_debug)
                .collect(),
            why,
        })
    };
    if spec.url.is_some() {
        // Not shown: it may have a password in it.
        return invalid("url", "…", "it runs a server of its own");
    }
    if let Some(database) = spec.databases.first() {
        return invalid("databases", database, "it has no databases");
    }
    if let Some(extension) = spec.extensions.first() {
        return invalid("extensions", extension, "it has no extensions");
    }
    if let Some(version) = &spec.version {
        match version.parse::<Version>() {
            Err(()) => {
                return invalid(
                    "version",
                    version,
                    "a version is numbers and dots, as in 2.10",
                );
            }
            Ok(parsed) if !parsed.is_known() => {
                return invalid("version", version, "only versions 2 are run");
            }
            Ok(_) => {}
        }
    }
    if let Some(limits) = spec.jetstream
        && (limits.max_storage == Some(0) || limits.max_memory == Some(0))
    {
        return invalid("jetstream", "0 bytes", "leave it out to keep nothing");
    }
    subjects::check(&spec.subjects)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Limits = Limits {
        storage: 1000,
        memory: 100,
    };

    #[test]
    fn what_is_asked_for_is_new_once() {
        let mut owner = Owner::new();
        let mut spec = ServiceSpec::default();
        assert!(!owner.ask(&spec, DEFAULT));
        spec.jetstream = Some(JetStream {
            max_storage: Some(7),
            max_memory: None,
        });
        assert!(owner.ask(&spec, DEFAULT));
        assert_eq!(
            owner.jetstream,
            Some(Limits {
                storage: 7,
                memory: 100
            })
        );
        // A default that has changed since then changes nothing.
        assert!(!owner.ask(
            &spec,
            Limits {
                storage: 1,
                memory: 1
            }
        ));
        owner.active = false;
        assert!(owner.ask(&spec, DEFAULT));
        assert!(owner.active);
    }

    #[test]
    fn it_is_written_as_it_is_read_and_shows_no_password() {
        use secrecy::ExposeSecret;

        let dir = tempfile::tempdir().unwrap();
        let owners = Owners::new(dir.path().join("owners"));
        assert!(owners.list().unwrap().is_empty());
        fs::create_dir(&owners.dir).unwrap();
        let name = OwnerName::parse("shop").unwrap();
        let owner = Owner::new();
        owners.store(&name, &owner).unwrap();
        fs::write(owners.dir.join(".shop.toml.new"), "half").unwrap();

        let mut all = owners.list().unwrap();
        let (found, read) = all.remove(0);
        assert!(all.is_empty());
        assert_eq!(found, name);
        let password = owner.password.expose_secret();
        assert_eq!(read.password.expose_secret(), password);
        assert!(bcrypt::verify(password, &read.password_hash).unwrap());
        assert!(!format!("{read:?}").contains(password));

        // An error does not show the line that is wrong: it may be the password's.
        fs::write(owners.file(&name), format!("password = {password}\n")).unwrap();
        let error = owners.load(&name).unwrap_err();
        assert!(matches!(error, ServiceError::Damaged { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains(password), "{error:?}");
        fs::write(owners.file(&name), format!("active = \"{password}\"\n")).unwrap();
        let error = owners.load(&name).unwrap_err();
        assert!(!format!("{error:?}").contains(password), "{error:?}");
    }

    #[test]
    fn what_there_is_not_is_refused() {
        let refused = |spec: ServiceSpec| check(&spec).unwrap_err().to_string();
        let url = ServiceSpec::existing("nats://u:hunter2@h".into());
        assert!(!refused(url).contains("hunter2"));
        let version = Some("latest".to_owned());
        assert!(
            refused(ServiceSpec {
                version,
                ..ServiceSpec::default()
            })
            .contains("version")
        );
        let version = Some("1.4".to_owned());
        assert!(
            refused(ServiceSpec {
                version,
                ..ServiceSpec::default()
            })
            .contains("version")
        );
        let databases = vec!["a".to_owned()];
        assert!(
            refused(ServiceSpec {
                databases,
                ..ServiceSpec::default()
            })
            .contains("databases")
        );
    }
}
