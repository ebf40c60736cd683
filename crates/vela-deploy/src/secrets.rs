use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use vela_protocol::{SecretChange, SecretNames};

use crate::durable;
use crate::error::{EngineError, StateError};

/// The secrets of one app, as immutable versions: `secrets/<n>.env`, mode 0600, one `NAME="value"` a line with the
/// value as a JSON string. Version 0 is the empty one that every app begins with.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    dir: PathBuf,
}

impl Secrets {
    pub(crate) fn new(dir: PathBuf) -> Secrets {
        Secrets { dir }
    }

    /// The newest version's number.
    pub(crate) fn newest(&self) -> Result<u64, StateError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(StateError::at(&self.dir))?,
        };
        let mut newest = 0;
        for entry in entries {
            let name = entry.map_err(StateError::at(&self.dir))?.file_name();
            let version = name
                .to_str()
                .and_then(|name| name.strip_suffix(".env")?.parse().ok());
            newest = newest.max(version.unwrap_or(0));
        }
        Ok(newest)
    }

    /// The values of one version.
    pub(crate) fn read(&self, version: u64) -> Result<BTreeMap<String, SecretString>, StateError> {
        if version == 0 {
            return Ok(BTreeMap::new());
        }
        let path = self.path(version);
        let text = std::fs::read_to_string(&path).map_err(StateError::at(&path))?;
        text.lines().map(|line| parse(line, &path)).collect()
    }

    /// Writes the next version: the newest with `change` applied.
    pub(crate) fn change(&self, change: &SecretChange) -> Result<SecretNames, EngineError> {
        if let Some(name) = change.set.keys().find(|name| !is_name(name)) {
            return Err(EngineError::SecretName { name: name.clone() });
        }
        let newest = self.newest()?;
        let mut values = self.read(newest)?;
        for name in &change.remove {
            if values.remove(name).is_none() {
                return Err(EngineError::NoSuchSecret { name: name.clone() });
            }
        }
        for (name, value) in &change.set {
            values.insert(name.clone(), SecretString::from(value.as_str()));
        }
        let version = newest + 1;
        let path = self.path(version);
        durable::make_dir(&self.dir, 0o700).map_err(StateError::at(&self.dir))?;
        durable::write(&path, render(&values).as_bytes(), 0o600).map_err(StateError::at(&path))?;
        Ok(SecretNames {
            version,
            names: values.into_keys().collect(),
        })
    }

    pub(crate) fn names(&self) -> Result<SecretNames, StateError> {
        let version = self.newest()?;
        Ok(SecretNames {
            version,
            names: self.read(version)?.into_keys().collect(),
        })
    }

    fn path(&self, version: u64) -> PathBuf {
        self.dir.join(format!("{version}.env"))
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name != "PORT"
        && !name.starts_with("VELA_")
}

fn render(values: &BTreeMap<String, SecretString>) -> String {
    let line = |(name, value): (&String, &SecretString)| {
        format!(
            "{name}={}\n",
            serde_json::Value::from(value.expose_secret())
        )
    };
    values.iter().map(line).collect()
}

fn parse(line: &str, path: &Path) -> Result<(String, SecretString), StateError> {
    let pair = line.split_once('=').and_then(|(name, value)| {
        let value: String = serde_json::from_str(value).ok()?;
        Some((name.to_owned(), SecretString::from(value)))
    });
    pair.ok_or_else(|| StateError::Damaged {
        path: path.to_owned(),
        source: "a line is not NAME=\"value\"".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> SecretChange {
        SecretChange {
            set: [(name.to_owned(), value.to_owned())].into(),
            remove: vec![],
        }
    }

    #[test]
    fn each_change_is_a_new_version_and_the_old_one_stays_readable() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(dir.path().join("secrets"));
        assert_eq!(secrets.newest().unwrap(), 0);
        secrets.change(&set("KEY", "a\n\"b\"=c")).unwrap();
        secrets.change(&set("OTHER", "x")).unwrap();
        let names = secrets
            .change(&SecretChange {
                set: [].into(),
                remove: vec!["KEY".into()],
            })
            .unwrap();
        assert_eq!((names.version, names.names), (3, vec!["OTHER".to_owned()]));
        assert_eq!(
            secrets.read(1).unwrap()["KEY"].expose_secret(),
            "a\n\"b\"=c"
        );
        assert_eq!(secrets.read(2).unwrap().len(), 2);
    }

    #[test]
    fn bad_names_and_unknown_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(dir.path().to_owned());
        for name in ["", "1A", "A-B", "A=B", "PORT", "VELA_X", "A\nB"] {
            assert!(
                matches!(
                    secrets.change(&set(name, "v")),
                    Err(EngineError::SecretName { .. })
                ),
                "{name:?}"
            );
        }
        let gone = SecretChange {
            set: [].into(),
            remove: vec!["NOPE".into()],
        };
        assert!(matches!(
            secrets.change(&gone),
            Err(EngineError::NoSuchSecret { .. })
        ));
        assert_eq!(secrets.newest().unwrap(), 0);
    }
}
