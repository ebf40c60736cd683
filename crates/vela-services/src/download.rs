use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::{Builder, NamedTempFile};

use self::sha256::Sha256;
use crate::ServiceError;

mod error;
mod fetch;
mod sha256;
mod unpack;

pub use self::error::{DownloadError, InvalidDownload};

/// Where NATS keeps its releases.
const URL: &str = "https://github.com/nats-io/nats-server/releases/download/v{version}/nats-server-v{version}-linux-{arch}.tar.gz";

/// Where a server's program is downloaded from: a `tar.gz` of one version, with the checksum that
/// it must have on each architecture.
///
/// The [default](Download::default) is a release of nats-server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    url: String,
    version: String,
    sha256: BTreeMap<String, Sha256>,
    max_bytes: u64,
    timeout: Duration,
}

impl Download {
    /// Takes it from elsewhere: `{version}` and `{arch}` (`amd64` or `arm64`) are replaced in
    /// `url`. Plain `http://` is as safe as the checksum, and fit for a mirror nearby.
    ///
    /// # Errors
    ///
    /// If it is not such a url.
    pub fn from(mut self, url: &str) -> Result<Self, InvalidDownload> {
        let host = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        let is_url = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
            && url.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_url {
            return Err(InvalidDownload::Url(url.chars().take(200).collect()));
        }
        url.clone_into(&mut self.url);
        Ok(self)
    }

    /// Takes another version, with the SHA-256 of its file for each architecture that has one, in
    /// hexadecimal digits.
    ///
    /// # Errors
    ///
    /// If the version is not numbers and dots, or a checksum is none.
    pub fn release(
        mut self,
        version: &str,
        sha256: impl IntoIterator<Item = (impl Into<String>, impl AsRef<str>)>,
    ) -> Result<Self, InvalidDownload> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if version.len() > 32 || !version.split('.').all(is_number) {
            return Err(InvalidDownload::Version(version.chars().take(80).collect()));
        }
        version.clone_into(&mut self.version);
        self.sha256 = sha256
            .into_iter()
            .map(|(arch, digest)| Ok((arch.into(), Sha256::parse(digest.as_ref())?)))
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// The most bytes that the file may have; 128 MiB unless set.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// How long all of it may take; ten minutes unless set. Nothing may take longer than half a
    /// minute to answer, whatever this says.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The version that it brings.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where `install` puts the program.
    pub(crate) fn target(&self, dir: &Path, program: &str) -> PathBuf {
        dir.join(format!("{program}-{}", self.version))
    }

    /// The file for this machine.
    pub(crate) fn url(&self) -> String {
        self.url
            .replace("{version}", &self.version)
            .replace("{arch}", arch())
    }

    /// Downloads the file, checks it, and puts the `program` in it into `dir` (0755), whole or not
    /// at all. One that is there already is left as it is. What a crash left there goes.
    ///
    /// Cancel safe: a dropped future ends the download, at the latest when the other side next
    /// says something, and leaves nothing behind.
    pub(crate) async fn install(
        &self,
        kind: &'static str,
        dir: &Path,
        program: &'static str,
    ) -> Result<PathBuf, ServiceError> {
        let target = self.target(dir, program);
        if target.exists() {
            return Ok(target);
        }
        let cancelled = CancelOnDrop::default();
        let job = Job {
            download: self.clone(),
            program,
            dir: dir.to_owned(),
            target: target.clone(),
            cancelled: Arc::clone(&cancelled.0),
        };
        let failed = |source| ServiceError::Download {
            kind,
            url: self.url(),
            source: Box::new(source),
        };
        match tokio::task::spawn_blocking(move || job.run()).await {
            Ok(done) => done.map_err(failed)?,
            Err(ended) => return Err(failed(DownloadError::Interrupted(ended.into()))),
        }
        Ok(target)
    }
}

impl Default for Download {
    /// nats-server 2.11.9, from its own place.
    fn default() -> Self {
        let pin = |arch: &str, digest| {
            let digest = Sha256::parse(digest).expect("64 hexadecimal digits, as a test sees");
            (arch.to_owned(), digest)
        };
        Self {
            url: URL.to_owned(),
            version: "2.11.9".to_owned(),
            sha256: BTreeMap::from([
                pin(
                    "amd64",
                    "3eef83faa048d3879937a6871f59ae5d9c3bbf5900905b7a9ff996a894d755ab",
                ),
                pin(
                    "arm64",
                    "47d7e652eb761d771bc42df04924aae0acf4e026d30ea98faa9bab216cc2e742",
                ),
            ]),
            max_bytes: 128 << 20,
            timeout: Duration::from_secs(600),
        }
    }
}

/// What this machine is called in names of releases.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Tells the blocking job that nobody waits for it any more.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Job {
    download: Download,
    program: &'static str,
    dir: PathBuf,
    target: PathBuf,
    cancelled: Arc<AtomicBool>,
}

impl Job {
    fn run(&self) -> Result<(), DownloadError> {
        let wanted = self
            .download
            .sha256
            .get(arch())
            .ok_or_else(|| DownloadError::NoChecksum {
                arch: arch().to_owned(),
            })?;
        self.sweep().map_err(self.write_failed())?;
        // Without a name, so that it is gone however this ends.
        let mut archive = tempfile::tempfile_in(&self.dir).map_err(self.write_failed())?;
        let found = fetch::fetch(&self.download, &mut archive, &self.dir, &self.cancelled)?;
        if found != *wanted {
            return Err(DownloadError::Checksum {
                wanted: wanted.to_string(),
                found: found.to_string(),
            });
        }
        let mut binary = Builder::new()
            .prefix(PARTIAL)
            .permissions(Permissions::from_mode(0o755))
            .tempfile_in(&self.dir)
            .map_err(self.write_failed())?;
        unpack::unpack(archive, self.program, binary.as_file_mut(), &self.dir)?;
        self.publish(binary)
    }

    fn publish(&self, binary: NamedTempFile) -> Result<(), DownloadError> {
        // The umask may have taken something away.
        binary
            .as_file()
            .set_permissions(Permissions::from_mode(0o755))
            .and_then(|()| binary.as_file().sync_all())
            .map_err(self.write_failed())?;
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(DownloadError::Cancelled);
        }
        binary
            .persist(&self.target)
            .map_err(|error| self.write_failed()(error.error))?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(self.write_failed())
    }

    /// Removes what was half unpacked when this program or the machine was killed.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PARTIAL.as_bytes())
            {
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn write_failed(&self) -> impl FnOnce(io::Error) -> DownloadError {
        error::write_failed(&self.dir)
    }
}

/// How the names of half unpacked programs begin.
const PARTIAL: &str = ".partial-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_a_checksum_for_both_architectures() {
        let default = Download::default();
        assert!(default.sha256.keys().eq(["amd64", "arm64"]));
        assert!(default.url().starts_with(
            "https://github.com/nats-io/nats-server/releases/download/v2.11.9/nats-server-v2.11.9-linux-"
        ));
    }

    #[test]
    fn only_what_can_be_downloaded() {
        let digest = "a".repeat(64);
        let pinned = Download::default()
            .from("http://mirror/{arch}/{version}.tgz")
            .and_then(|download| download.release("2.9.1", [(arch(), &digest)]))
            .unwrap();
        assert_eq!(pinned.url(), format!("http://mirror/{}/2.9.1.tgz", arch()));

        for url in ["", "ftp://x", "https://", "https:///x", "http://a b", "x"] {
            assert!(Download::default().from(url).is_err(), "{url}");
        }
        for version in ["", "v2", "2.", "../x", "2.10-RC.1"] {
            assert!(
                Download::default()
                    .release(version, [("amd64", &digest)])
                    .is_err(),
                "{version}"
            );
        }
        for digest in ["", "abc", &"g".repeat(64), &"é".repeat(32)] {
            assert!(
                Download::default()
                    .release("2.9", [("amd64", digest)])
                    .is_err(),
                "{digest}"
            );
        }
    }
}
