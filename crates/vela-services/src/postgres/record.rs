use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::major::Major;
use super::secret::{in_file, verifier};
use crate::password::new_password;
use crate::{OwnerName, ServiceError, durable};

/// What an owner has: `owners/<owner>.toml`, 0600. It is written before the server is told
/// anything, so that whatever the server knows is known here, with the password.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// A major version, or `elsewhere`.
    server: String,
    pub(super) standing: Standing,
    /// How to get in elsewhere, to take away what was made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<Admin>,
    #[serde(default)]
    pub(super) databases: Vec<Database>,
}

/// Where an owner's databases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the server of this version that is run here.
    Here(Major),
    /// In a server that somebody else runs.
    Elsewhere,
}

/// How an owner stands. What takes more than one step is written down before its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    Active,
    /// Being removed; its roles may be locked by now, or not.
    Leaving,
    /// Removed, with its data kept and its roles locked.
    Removed,
    /// Being removed with its data, of which some may be gone by now.
    Purging,
}

/// One database with the role that owns it, both of one name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub(super) name: String,
    #[serde(with = "in_file")]
    pub(super) password: SecretString,
    /// What the server was told. Kept, because its salt is part of it.
    #[serde(with = "in_file")]
    pub(super) verifier: SecretString,
    /// The comment of the role, by which what was made from here is known.
    pub(super) mark: String,
    /// Whether it was complete once: what is missing then has been taken away by somebody.
    pub(super) created: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Admin(#[serde(with = "in_file")] SecretString);

impl Record {
    pub(super) fn new(place: Place) -> Self {
        let server = match place {
            Place::Here(major) => major.to_string(),
            Place::Elsewhere => "elsewhere".into(),
        };
        Self {
            server,
            standing: Standing::Active,
            admin: None,
            databases: Vec::new(),
        }
    }

    pub(super) fn place(&self) -> Place {
        // Anything else was refused when it was read.
        Major::of_directory(&self.server).map_or(Place::Elsewhere, Place::Here)
    }

    pub(super) fn admin(&self) -> Option<&SecretString> {
        self.admin.as_ref().map(|Admin(url)| url)
    }

    /// Tells whether that is news.
    pub(super) fn set_admin(&mut self, url: &SecretString) -> bool {
        let known = self.admin().map(ExposeSecret::expose_secret);
        let is_news = known != Some(url.expose_secret());
        self.admin = Some(Admin(url.clone()));
        is_news
    }

    pub(super) fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.name == name)
    }

    /// Adds a database with a password of its own.
    pub(super) fn add(&mut self, owner: &OwnerName, name: &str) {
        let password = new_password();
        let verifier = verifier(&password);
        self.databases.push(Database {
            name: name.to_owned(),
            password,
            verifier,
            mark: format!("vela {owner} {}", new_password().expose_secret()),
            created: false,
        });
    }
}

/// The records of all owners.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
}

impl Records {
    /// In the directory `dir`, which need not exist.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The record of one owner, if it has one.
    pub(super) fn load(&self, owner: &OwnerName) -> Result<Option<Record>, ServiceError> {
        let path = self.path(owner);
        let Some(text) = durable::read(&path)? else {
            return Ok(None);
        };
        let damaged = |source| ServiceError::Damaged {
            path: path.clone(),
            source,
        };
        // The parser's own text quotes the line, which may hold a password.
        let record: Record =
            toml::from_str(&text).map_err(|error| damaged(error.message().to_owned().into()))?;
        let is_known =
            record.server == "elsewhere" || Major::of_directory(&record.server).is_some();
        if !is_known {
            return Err(damaged("it names no server".into()));
        }
        Ok(Some(record))
    }

    /// Writes the record of one owner, durably.
    pub(super) fn save(&self, owner: &OwnerName, record: &Record) -> Result<(), ServiceError> {
        durable::directory(&self.dir, 0o700, None)?;
        let path = self.path(owner);
        let text = toml::to_string(record).map_err(|error| ServiceError::Damaged {
            path: path.clone(),
            source: error.into(),
        })?;
        durable::write(&path, &text, 0o600)
    }

    pub(super) fn forget(&self, owner: &OwnerName) -> Result<(), ServiceError> {
        durable::remove(&self.path(owner))
    }

    /// Every owner's record. A damaged one is in its place: it concerns its owner only.
    pub(super) fn all(
        &self,
    ) -> Result<BTreeMap<OwnerName, Result<Record, ServiceError>>, ServiceError> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries.map_err(durable::failed(&self.dir))?,
        };
        let mut records = BTreeMap::new();
        for entry in entries {
            let name = entry.map_err(durable::failed(&self.dir))?.file_name();
            let Some(owner) = name.to_str().and_then(|name| name.strip_suffix(".toml")) else {
                continue;
            };
            let Ok(owner) = OwnerName::parse(owner) else {
                continue;
            };
            if let Some(record) = self.load(&owner).transpose() {
                records.insert(owner, record);
            }
        }
        Ok(records)
    }

    pub(super) fn path(&self, owner: &OwnerName) -> PathBuf {
        self.dir.join(format!("{owner}.toml"))
    }
}

/// What is kept of one server: `<major>/server.toml`, 0600.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerRecord {
    /// Chosen once: running programs hold it in their environment.
    pub(super) port: u16,
    /// The version that ran last, as it calls itself.
    pub(super) version: Option<String>,
}

impl ServerRecord {
    pub(super) fn load(path: &Path) -> Result<Option<Self>, ServiceError> {
        let Some(text) = durable::read(path)? else {
            return Ok(None);
        };
        let record = toml::from_str(&text).map_err(|error| ServiceError::Damaged {
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Some(record))
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), ServiceError> {
        let text = toml::to_string(self).map_err(|error| ServiceError::Damaged {
            path: path.to_owned(),
            source: error.into(),
        })?;
        durable::write(path, &text, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_record_is_private_and_comes_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().join("owners"));
        let owner = OwnerName::parse("my-app").unwrap();
        assert!(records.load(&owner).unwrap().is_none());

        let mut record = Record::new(Place::Elsewhere);
        record.add(&owner, "my_app");
        record.set_admin(&"postgres://admin:hunter2@h/db".into());
        records.save(&owner, &record).unwrap();
        let path = dir.path().join("owners/my-app.toml");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = records.load(&owner).unwrap().unwrap();
        let password = record.databases[0].password.expose_secret();
        assert_eq!(again.databases[0].password.expose_secret(), password);
        assert_eq!(again.place(), Place::Elsewhere);
        assert!(again.admin().unwrap().expose_secret().contains("hunter2"));
        let shown = format!("{again:?}");
        assert!(
            !shown.contains(password) && !shown.contains("hunter2"),
            "{shown}"
        );

        records.forget(&owner).unwrap();
        assert!(records.all().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_record_is_reported_without_its_secrets_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().to_owned());
        let owner = OwnerName::parse("my-app").unwrap();
        let path = dir.path().join("my-app.toml");
        for text in [
            "",
            "server = \"15\"\nstanding = \"active\"\n[[databases]]\npassword = \"hunter2",
            "server = \"15\"\nstanding = \"hunter2\"\n",
            "server = \"../15\"\nstanding = \"active\"\n",
        ] {
            fs::write(&path, text).unwrap();
            let error = records.load(&owner).unwrap_err();
            assert!(matches!(error, ServiceError::Damaged { .. }), "{error:?}");
            assert!(!format!("{error:?}").contains("password = "), "{error:?}");
            assert!(records.all().unwrap()[&owner].is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
