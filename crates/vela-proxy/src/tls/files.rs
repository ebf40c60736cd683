use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Certificate, CertificateError, CertificateStore, Origin};

/// A certificate that the operator gives, as two PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain: the server's own certificate first, then the intermediate ones.
    pub certificate: PathBuf,
    /// The private key, unencrypted. May be the same file.
    pub key: PathBuf,
}

/// Certificates that are served from files, and loaded again when the files change.
///
/// It looks at the files' metadata now and then instead of being told of changes: that holds for
/// links that are replaced and for file systems over a network too, and costs two system calls a
/// pair. A pair that is bad is not served, and its predecessor stays.
#[derive(Debug)]
pub struct FileCertificates {
    store: Arc<CertificateStore>,
    pairs: Mutex<Vec<Pair>>,
}

/// How a pair of files fares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStatus {
    /// The pair.
    pub files: CertificateFiles,
    /// Why what the files hold now is not served.
    pub problem: Option<String>,
}

/// Why a pair of files is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pair is refused.
    #[error("{} with the key {} is refused", files.certificate.display(), files.key.display())]
    Refused {
        /// The pair.
        files: CertificateFiles,
        /// Why.
        source: CertificateError,
    },
}

#[derive(Debug)]
struct Pair {
    files: CertificateFiles,
    /// As the files were when the pair was loaded; none if it could not be.
    loaded: Option<[Stamp; 2]>,
    problem: Option<String>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl CertificateFiles {
    /// Reads and checks the pair.
    ///
    /// # Errors
    /// When a file cannot be read or the pair is bad at this time.
    pub fn load(&self) -> Result<Certificate, FileError> {
        let chain = read(&self.certificate)?;
        let key = read(&self.key)?;
        Certificate::from_pem(&chain, &key, SystemTime::now()).map_err(|source| {
            FileError::Refused {
                files: self.clone(),
                source,
            }
        })
    }

    /// Its id in the store.
    fn id(&self) -> String {
        self.certificate.display().to_string()
    }

    fn stamps(&self) -> Option<[Stamp; 2]> {
        Some([Stamp::of(&self.certificate)?, Stamp::of(&self.key)?])
    }
}

impl FileCertificates {
    /// Loads all pairs into a store. One that is bad is logged, is in the status, and is tried
    /// again by [`FileCertificates::reload`].
    pub fn load(store: Arc<CertificateStore>, files: Vec<CertificateFiles>) -> FileCertificates {
        let pairs = files.into_iter().map(|files| Pair {
            files,
            loaded: None,
            problem: None,
        });
        let certificates = FileCertificates {
            store,
            pairs: Mutex::new(pairs.collect()),
        };
        let ids = certificates
            .pairs()
            .iter()
            .map(|pair| pair.files.id())
            .collect::<Vec<_>>();
        certificates.store.put_in_order(ids);
        certificates.reload();
        certificates
    }

    /// Loads the pairs whose files have changed, and those that could not be loaded before. Does
    /// file I/O, and no handshake waits for it.
    pub fn reload(&self) {
        let mut pairs = self.pairs();
        let loaded: Vec<_> = pairs.iter_mut().filter_map(Pair::reload).collect();
        if !loaded.is_empty() {
            self.store.put_all(Origin::Static, loaded);
        }
        for pair in pairs.iter() {
            if let Some(problem) = &pair.problem {
                let id = pair.files.id();
                self.store
                    .note_problem(Origin::Static, &id, problem.clone());
            }
        }
    }

    /// Reloads at this interval for as long as it is polled.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let files = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || files.reload()).await {
                tracing::error!(%error, "looking at certificate files has panicked");
            }
        }
    }

    /// How each pair fares, in the order given.
    pub fn status(&self) -> Vec<FileStatus> {
        let pairs = self.pairs();
        pairs
            .iter()
            .map(|pair| FileStatus {
                files: pair.files.clone(),
                problem: pair.problem.clone(),
            })
            .collect()
    }

    fn pairs(&self) -> MutexGuard<'_, Vec<Pair>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pair {
    fn reload(&mut self) -> Option<(String, Certificate)> {
        // Before the files are read: what changes meanwhile is seen the next time.
        let stamps = self.files.stamps();
        if stamps.is_some() && stamps == self.loaded {
            return None;
        }
        match self.files.load() {
            Ok(certificate) => {
                self.loaded = stamps.filter(|stamps| stamps.iter().all(|one| one.is_settled()));
                self.problem = None;
                let id = self.files.id();
                tracing::debug!(certificate = %id, "loaded");
                Some((id, certificate))
            }
            Err(error) => {
                let problem = with_causes(&error);
                if self.problem.as_ref() != Some(&problem) {
                    tracing::warn!("{problem}");
                }
                // Tried again each time: what is wrong may be the time of day, or a second file
                // that is still to come.
                self.loaded = None;
                self.problem = Some(problem);
                None
            }
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let of = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: (of.dev(), of.ino()),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        })
    }

    /// Whether it is old enough for the next change to give another one: a file system's clock
    /// may tick as seldom as every two seconds.
    fn is_settled(&self) -> bool {
        const TICK: u64 = 3;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let changed = u64::try_from(self.changed.0).unwrap_or(0);
        now.is_ok_and(|now| now.as_secs() > changed.saturating_add(TICK))
    }
}

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    const LARGEST: u64 = 1024 * 1024;
    let read = || {
        let mut content = Vec::new();
        let file = fs::File::open(path)?;
        let size = file.take(LARGEST + 1).read_to_end(&mut content)?;
        match size as u64 > LARGEST {
            true => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
            false => Ok(content),
        }
    };
    read().map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Pair as Pem, pair};
    use super::*;

    struct Dir {
        dir: tempfile::TempDir,
        store: Arc<CertificateStore>,
    }

    impl Dir {
        fn new() -> Dir {
            Dir {
                dir: tempfile::tempdir().unwrap(),
                store: Arc::new(CertificateStore::new().unwrap()),
            }
        }

        fn files(&self) -> CertificateFiles {
            CertificateFiles {
                certificate: self.dir.path().join("cert.pem"),
                key: self.dir.path().join("key.pem"),
            }
        }

        fn load(&self) -> FileCertificates {
            FileCertificates::load(Arc::clone(&self.store), vec![self.files()])
        }

        fn write(&self, chain: &str, key: &str) {
            fs::write(self.files().certificate, chain).unwrap();
            fs::write(self.files().key, key).unwrap();
        }
    }

    #[test]
    fn a_changed_pair_is_served_and_a_bad_one_is_not() {
        let dir = Dir::new();
        let first = pair(&["a.test"], 30);
        dir.write(&first.chain, &first.key);
        let files = dir.load();
        assert!(dir.store.covers("a.test"));
        assert_eq!(files.status()[0].problem, None);

        // Half of a renewal: the key is still the old one.
        let second = pair(&["a.test", "b.test"], 30);
        dir.write(&second.chain, &first.key);
        files.reload();
        let problem = files.status()[0].problem.clone().unwrap();
        assert!(
            problem.ends_with("does not belong to the certificate"),
            "{problem}"
        );
        assert!(dir.store.covers("a.test") && !dir.store.covers("b.test"));
        assert_eq!(dir.store.status()[0].problem, Some(problem));

        dir.write(&second.chain, &second.key);
        files.reload();
        assert!(dir.store.covers("b.test"));
        assert_eq!(files.status()[0].problem, None);
        assert_eq!(dir.store.status()[0].problem, None);

        let Pem { chain, key } = pair(&["c.test"], -1);
        for (chain, key) in [(chain, key), ("garbage".into(), "".into())] {
            dir.write(&chain, &key);
            files.reload();
            assert!(files.status()[0].problem.is_some());
            assert!(dir.store.covers("b.test") && !dir.store.covers("c.test"));
        }
        fs::remove_file(dir.files().key).unwrap();
        files.reload();
        let problem = files.status()[0].problem.clone().unwrap();
        assert!(problem.contains("key.pem: No such file"), "{problem}");
        assert!(dir.store.covers("b.test"));
    }

    #[test]
    fn a_pair_that_comes_later_is_served_then() {
        let dir = Dir::new();
        let files = dir.load();
        assert!(files.status()[0].problem.is_some());
        let Pem { chain, key } = pair(&["a.test"], 30);
        dir.write(&chain, &key);
        files.reload();
        assert!(dir.store.covers_statically("a.test"));
    }

    #[test]
    fn the_first_one_is_that_of_the_list_even_if_it_comes_late() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(CertificateStore::new().unwrap());
        let files = |name: &str| CertificateFiles {
            certificate: dir.path().join(name),
            key: dir.path().join(name),
        };
        let write = |name: &str, host: &str| {
            let Pem { chain, key } = pair(&[host], 30);
            fs::write(dir.path().join(name), chain + &key).unwrap();
        };
        write("a.pem", "a.test");
        let all = vec![files("z.pem"), files("a.pem")];
        let loaded = FileCertificates::load(Arc::clone(&store), all);
        let default = || store.find(None).cert[0].clone();
        let of = |name: &str| files(name).load().unwrap().own().clone();
        assert_eq!(default(), of("a.pem"), "all that there is");
        write("z.pem", "z.test");
        loaded.reload();
        assert_eq!(default(), of("z.pem"));
    }

    #[test]
    fn what_has_not_changed_is_not_read_again() {
        let dir = Dir::new();
        let Pem { chain, key } = pair(&["a.test"], 30);
        dir.write(&chain, &key);
        let files = dir.load();
        {
            let mut pairs = files.pairs();
            assert_eq!(pairs[0].loaded, None, "too young to be told from the next");
            pairs[0].loaded = pairs[0].files.stamps();
        }
        assert!(files.pairs()[0].reload().is_none());
        dir.write(&chain, &format!("{key}\n"));
        assert!(files.pairs()[0].reload().is_some());
    }
}
