use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use instant_acme::AccountCredentials;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::AcmeError;
use crate::tls::{Certificate, DnsName};

/// What is kept over restarts, all of it for this user's eyes only. Each write is whole or not
/// there, whenever the process ends.
///
/// ```text
/// accounts/<directory>.json    the key of the account
/// orders/<name>.json           an order under way: its key, its names, its URL
/// certificates/<name>.pem      key and chain in one file, so that they always match
/// failures/<name>.json         how often it failed, and when to try again
/// ```
#[derive(Clone, Debug)]
pub(super) struct Disk {
    root: PathBuf,
}

/// An order that has not ended yet. Not to be shown: it holds a private key.
#[derive(Serialize, Deserialize)]
pub(super) struct PendingOrder {
    pub(super) directory: String,
    pub(super) names: Vec<String>,
    /// The private key of the certificate to come, as PEM.
    pub(super) key: String,
    /// None until the authority has taken the order.
    pub(super) url: Option<String>,
}

/// Attempts that failed, since the last that did not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) error: String,
    #[serde(default)]
    pub(super) hint: Option<String>,
    /// In seconds since 1970.
    pub(super) retry_at: u64,
}

impl Failures {
    pub(super) fn retry_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.retry_at)
    }
}

/// A certificate as it was issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) certificate: Certificate,
    /// The directory of the authority that issued it.
    pub(super) directory: String,
}

const KINDS: [&str; 4] = ["accounts", "orders", "certificates", "failures"];

impl Disk {
    pub(super) fn open(root: &Path) -> Result<Disk, AcmeError> {
        for kind in KINDS {
            let dir = root.join(kind);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(AcmeError::state("make", &dir))?;
        }
        Ok(Disk {
            root: root.to_owned(),
        })
    }

    pub(super) fn account(&self, directory: &str) -> Result<Option<AccountCredentials>, AcmeError> {
        read_json(&self.account_path(directory))
    }

    pub(super) fn save_account(
        &self,
        directory: &str,
        account: &AccountCredentials,
    ) -> Result<(), AcmeError> {
        write_json(&self.account_path(directory), account)
    }

    pub(super) fn remove_account(&self, directory: &str) -> Result<(), AcmeError> {
        remove(&self.account_path(directory))
    }

    pub(super) fn order(&self, name: &DnsName) -> Result<Option<PendingOrder>, AcmeError> {
        read_json(&self.path("orders", name, "json"))
    }

    pub(super) fn save_order(&self, name: &DnsName, order: &PendingOrder) -> Result<(), AcmeError> {
        write_json(&self.path("orders", name, "json"), order)
    }

    pub(super) fn remove_order(&self, name: &DnsName) -> Result<(), AcmeError> {
        remove(&self.path("orders", name, "json"))
    }

    pub(super) fn failures(&self, name: &DnsName) -> Result<Option<Failures>, AcmeError> {
        read_json(&self.path("failures", name, "json"))
    }

    pub(super) fn save_failures(&self, name: &DnsName, of: &Failures) -> Result<(), AcmeError> {
        write_json(&self.path("failures", name, "json"), of)
    }

    pub(super) fn remove_failures(&self, name: &DnsName) -> Result<(), AcmeError> {
        remove(&self.path("failures", name, "json"))
    }

    pub(super) fn save_certificate(
        &self,
        name: &DnsName,
        directory: &str,
        key: &str,
        chain: &str,
    ) -> Result<(), AcmeError> {
        // What is outside of the PEM blocks is not read by anything else.
        let text = format!("{ISSUED_BY}{directory}\n{key}\n{chain}");
        write(&self.path("certificates", name, "pem"), text.as_bytes())
    }

    /// All certificates that are still valid, with the names they were saved under. Others are
    /// left where they are.
    pub(super) fn certificates(&self) -> Result<Vec<(DnsName, Issued)>, AcmeError> {
        let dir = self.root.join("certificates");
        let read = AcmeError::state("read", &dir);
        let entries = fs::read_dir(&dir)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(read)?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.path();
            let name = path.file_name().and_then(|name| {
                name.to_str()?
                    .strip_suffix(".pem")?
                    .replace('+', "*")
                    .parse()
                    .ok()
            });
            let Some(name) = name else {
                continue;
            };
            match load(&path) {
                Ok(issued) => found.push((name, issued)),
                Err(error) => {
                    let error = crate::tls::with_causes(&*error);
                    tracing::warn!(path = %path.display(), %error, "cannot use a certificate");
                }
            }
        }
        Ok(found)
    }

    fn account_path(&self, directory: &str) -> PathBuf {
        let slug: String = directory
            .trim_start_matches("https://")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(200)
            .collect();
        self.root.join("accounts").join(format!("{slug}.json"))
    }

    /// A name has nothing in it that leads out of a directory.
    fn path(&self, kind: &str, name: &DnsName, extension: &str) -> PathBuf {
        let name = name.as_str().replace('*', "+");
        self.root.join(kind).join(format!("{name}.{extension}"))
    }
}

const ISSUED_BY: &str = "Issued by ";

fn load(path: &Path) -> Result<Issued, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(path)?;
    let certificate = Certificate::from_pem(text.as_bytes(), text.as_bytes(), SystemTime::now())?;
    let directory = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(ISSUED_BY))
        .unwrap_or_default();
    Ok(Issued {
        certificate,
        directory: directory.to_owned(),
    })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AcmeError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AcmeError::state("read", path)(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| AcmeError::state("read", path)(error.into()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), AcmeError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| AcmeError::state("write", path)(error.into()))?;
    write(path, &text)
}

/// Replaces a file as a whole: what the new one lacks is never seen, and a power cut after this
/// does not bring the old one back.
fn write(path: &Path, content: &[u8]) -> Result<(), AcmeError> {
    let write = || {
        let dir = path.parent().unwrap_or(Path::new("."));
        let temporary = path.with_added_extension("new");
        // One that a crash left behind may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(AcmeError::state("write", path))
}

fn remove(path: &Path) -> Result<(), AcmeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(AcmeError::state("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::testing::{Pair, pair};

    #[test]
    fn what_is_kept_is_found_again_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let name: DnsName = "*.a.test".parse().unwrap();
        assert!(disk.order(&name).unwrap().is_none());
        let mut order = PendingOrder {
            directory: "https://ca.test/dir".into(),
            names: vec![name.to_string()],
            key: "key".into(),
            url: None,
        };
        disk.save_order(&name, &order).unwrap();
        order.url = Some("https://ca.test/1".into());
        // As after a crash between two lines.
        fs::write(dir.path().join("orders/+.a.test.json.new"), "half").unwrap();
        disk.save_order(&name, &order).unwrap();
        assert_eq!(disk.order(&name).unwrap().unwrap().url, order.url);
        let file = dir.path().join("orders/+.a.test.json");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        disk.remove_order(&name).unwrap();
        disk.remove_order(&name).unwrap();
        assert!(!file.exists());

        let Pair { chain, key } = pair(&["*.a.test"], 30);
        disk.save_certificate(&name, "https://ca.test/dir", &key, &chain)
            .unwrap();
        fs::write(dir.path().join("certificates/b.test.pem"), "broken").unwrap();
        let found = disk.certificates().unwrap();
        let [(found_name, issued)] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (found_name, &*issued.directory),
            (&name, "https://ca.test/dir")
        );
        assert!(issued.certificate.covers("x.a.test"));
    }
}
