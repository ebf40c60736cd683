use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use instant_acme::AccountCredentials;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AcmeError, AcmeSettings, CertifierState};
use crate::tls::{Certificate, CertificateError, DnsName};

/// What is kept over restarts, all of it for this user's eyes only. Each write is whole or not
/// there, whenever the process ends.
///
/// ```text
/// accounts/<directory>.json              the key of the account
/// orders/<name>.json                     an order under way: its key, its names, its URL
/// certificates/<directory>/<name>.pem    key and chain in one file, so that they always match
/// failures/<name>.json                   how often it failed, and when to try again
/// ```
///
/// The directory is that of the authority: what another one has issued is not lost while one is
/// tried out.
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
    /// What it was for.
    #[serde(default)]
    pub(super) names: Vec<String>,
    /// The directory of the authority.
    #[serde(default)]
    pub(super) directory: String,
}

impl Failures {
    /// A pause longer than `longest` was begun by a clock that was ahead: it is over.
    pub(super) fn retry_at(&self, now: SystemTime, longest: Duration) -> SystemTime {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.retry_at));
        at.filter(|at| *at <= now + longest).unwrap_or(now)
    }

    /// As it is told.
    pub(super) fn state(&self, retry_at: SystemTime) -> CertifierState {
        CertifierState::Failing {
            error: self.error.clone(),
            hint: self.hint.clone(),
            failures: self.count,
            retry_at,
        }
    }

    /// Whether it was for these names.
    pub(super) fn is_for(&self, names: &[DnsName]) -> bool {
        let own = self.names.iter().map(String::as_str);
        own.eq(names.iter().map(DnsName::as_str))
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
        make(root)?;
        for kind in KINDS {
            make(&root.join(kind))?;
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

    /// Those with this authority.
    pub(super) fn failures(
        &self,
        name: &DnsName,
        directory: &str,
    ) -> Result<Option<Failures>, AcmeError> {
        let found = read_json::<Failures>(&self.path("failures", name, "json"))?;
        Ok(found.filter(|one| one.directory.is_empty() || one.directory == directory))
    }

    pub(super) fn save_failures(&self, name: &DnsName, of: &Failures) -> Result<(), AcmeError> {
        write_json(&self.path("failures", name, "json"), of)
    }

    pub(super) fn remove_failures(&self, name: &DnsName) -> Result<(), AcmeError> {
        remove(&self.path("failures", name, "json"))
    }

    /// Ends an order whose certificate is there. Whenever the process ends, a certificate on disk
    /// has no earlier failures beside it, but maybe its order: see [`Disk::has_key`]. Failures go
    /// on where the certificate lacks names that are wanted.
    pub(super) fn complete(
        &self,
        name: &DnsName,
        order: &PendingOrder,
        chain: &str,
        ends_failures: bool,
    ) -> Result<(), AcmeError> {
        if ends_failures && let Err(error) = self.remove_failures(name) {
            let error = crate::tls::with_causes(&error);
            tracing::warn!(%error, "an old failure stays on disk");
        }
        self.save_certificate(name, &order.directory, &order.key, chain)?;
        self.remove_order(name)
    }

    /// Whether the certificate that is kept under this name has this key, as PEM.
    pub(super) fn has_key(&self, name: &DnsName, directory: &str, key: &str) -> bool {
        let path = self.certificate_path(name, directory);
        fs::read_to_string(path).is_ok_and(|text| text.contains(key.trim()))
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
        let path = self.certificate_path(name, directory);
        let dir = path.parent().unwrap_or(&self.root);
        make(dir)?;
        write(&path, text.as_bytes())
    }

    /// All certificates that are still valid, with the names they were saved under. Others are
    /// left where they are. One that is not valid yet is: its authority has issued it, so that it
    /// is the clock that is behind.
    pub(super) fn certificates(&self) -> Result<Vec<(DnsName, Issued)>, AcmeError> {
        let mut files = Vec::new();
        let dirs = entries(&self.root.join("certificates"))?;
        for dir in dirs.iter().filter(|path| path.is_dir()) {
            files.extend(entries(dir)?);
        }
        let mut found = Vec::new();
        for path in files {
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
        let slug = slug(directory);
        self.root.join("accounts").join(format!("{slug}.json"))
    }

    fn certificate_path(&self, name: &DnsName, directory: &str) -> PathBuf {
        self.path(&format!("certificates/{}", slug(directory)), name, "pem")
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
    let directory = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(ISSUED_BY))
        .unwrap_or_default();
    let certificate = issued(text.as_bytes(), text.as_bytes(), directory)?;
    Ok(Issued {
        certificate,
        directory: directory.to_owned(),
    })
}

/// A certificate from the authority of this directory. Not before its time it is good too.
pub(super) fn issued(
    chain: &[u8],
    key: &[u8],
    directory: &str,
) -> Result<Certificate, CertificateError> {
    let certificate = Certificate::of_any_time(chain, key)?;
    let at = certificate.details().not_after;
    if SystemTime::now() > at {
        return Err(CertificateError::Expired { at });
    }
    Ok(match directory == AcmeSettings::LETS_ENCRYPT_STAGING {
        true => certificate.for_tests(),
        false => certificate,
    })
}

/// A directory's URL as the name of a file.
fn slug(directory: &str) -> String {
    directory
        .trim_start_matches("https://")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(200)
        .collect()
}

/// A power cut after this does not take it away.
fn make(dir: &Path) -> Result<(), AcmeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| sync_parent(dir))
        .map_err(AcmeError::state("make", dir))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, AcmeError> {
    fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(AcmeError::state("read", dir))
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
        sync_parent(path)
    };
    write().map_err(AcmeError::state("write", path))
}

/// A power cut after this does not bring it back.
fn remove(path: &Path) -> Result<(), AcmeError> {
    let removed = match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(AcmeError::state("remove", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateParams, KeyPair};

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
        fs::write(
            dir.path().join("certificates/ca-test-dir/b.test.pem"),
            "broken",
        )
        .unwrap();
        assert!(disk.has_key(&name, "https://ca.test/dir", &key));
        assert!(!disk.has_key(&name, "https://ca.test/dir", "another"));
        assert!(!disk.has_key(&name, "https://other.test/dir", &key));
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

    #[test]
    fn a_clock_that_is_behind_costs_no_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        let days = |days: u64| SystemTime::now() + Duration::from_secs(days * 86_400);
        (params.not_before, params.not_after) = (days(10).into(), days(100).into());
        let key = KeyPair::generate().unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let name = "a.test".parse().unwrap();
        disk.save_certificate(&name, "dir", &key.serialize_pem(), &chain)
            .unwrap();
        let Pair { chain, key } = pair(&["b.test"], -1);
        let name = "b.test".parse().unwrap();
        disk.save_certificate(&name, "dir", &key, &chain).unwrap();
        let found = disk.certificates().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0.as_str(), "a.test");
    }

    #[test]
    fn an_order_ends_with_its_failures_first() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let name: DnsName = "a.test".parse().unwrap();
        let Pair { chain, key } = pair(&["a.test"], 30);
        let order = PendingOrder {
            directory: "ca".into(),
            names: vec![],
            key,
            url: None,
        };
        let failures = Failures {
            count: 1,
            ..Failures::default()
        };
        disk.save_order(&name, &order).unwrap();
        disk.save_failures(&name, &failures).unwrap();
        disk.complete(&name, &order, &chain, false).unwrap();
        assert!(disk.failures(&name, "ca").unwrap().is_some());
        assert!(disk.order(&name).unwrap().is_none());

        // As if it was killed at the certificate.
        disk.save_order(&name, &order).unwrap();
        fs::create_dir(dir.path().join("certificates/ca/a.test.pem.new")).unwrap();
        disk.complete(&name, &order, &chain, true).unwrap_err();
        assert!(disk.failures(&name, "ca").unwrap().is_none());
        assert!(disk.order(&name).unwrap().is_some());
    }

    #[test]
    fn pauses_are_those_of_this_clock_and_this_authority() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let name: DnsName = "a.test".parse().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let mut failures = Failures {
            count: 1,
            retry_at: 1100,
            names: vec!["a.test".into()],
            directory: "ca".into(),
            ..Failures::default()
        };
        disk.save_failures(&name, &failures).unwrap();
        assert!(disk.failures(&name, "ca").unwrap().is_some());
        assert!(disk.failures(&name, "other").unwrap().is_none());
        assert!(failures.is_for(std::slice::from_ref(&name)) && !failures.is_for(&[]));
        let longest = Duration::from_secs(100);
        assert_eq!(failures.retry_at(now, longest), now + longest);
        for far in [1101, u64::MAX] {
            failures.retry_at = far;
            assert_eq!(failures.retry_at(now, longest), now);
        }
    }
}
