//! What the integration tests share: hand-made archives, and a store to feed them to.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use tempfile::TempDir;
use vela_release::{
    ArchiveError, Artifact, DirStore, Limits, Release, ReleaseError, ReleaseId, ReleaseStore,
    Sha256Digest, StoreOptions,
};

pub(crate) fn id(second: u32) -> ReleaseId {
    format!("20260305-14{:02}{:02}", second / 60, second % 60)
        .parse()
        .unwrap()
}

/// A tar archive made block by block, so that it can be as wrong as it likes.
#[derive(Default, Clone)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn entry(self, kind: EntryType, name: &str, content: &[u8]) -> Self {
        self.raw(kind, name, "", 0o644, content.len() as u64, content)
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, content.as_bytes())
    }

    pub(crate) fn dir(self, name: &str, mode: u32) -> Self {
        self.raw(EntryType::Directory, name, "", mode, 0, &[])
    }

    pub(crate) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.raw(kind, name, target, 0o777, 0, &[])
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    /// pax records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut content = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let digits = (1..)
                .find(|n| (rest.len() + n).to_string().len() == *n)
                .unwrap();
            content += &format!("{}{rest}", rest.len() + digits);
        }
        self.entry(EntryType::XHeader, "pax", content.as_bytes())
    }

    pub(crate) fn raw(
        mut self,
        kind: EntryType,
        name: &str,
        target: &str,
        mode: u32,
        size: u64,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The archive with its end.
    pub(crate) fn end(mut self) -> Self {
        self.0.extend_from_slice(&[0; 1024]);
        self
    }

    pub(crate) fn gz(self) -> Vec<u8> {
        gz(&self.end().0)
    }
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A store in a directory that has something beside it to be harmed.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) store: DirStore,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(StoreOptions::default())
    }

    pub(crate) fn limited(max_files: u64, max_bytes: u64) -> Self {
        let limits = Limits {
            max_files,
            max_bytes,
        };
        Self::with(StoreOptions {
            limits,
            ..StoreOptions::default()
        })
    }

    pub(crate) fn with(options: StoreOptions) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("victim"), "unharmed").unwrap();
        let store = DirStore::open(dir.path().join("app"), options).unwrap();
        Self { dir, store }
    }

    pub(crate) fn app(&self) -> PathBuf {
        self.dir.path().join("app")
    }

    /// An artifact whose announced size and checksum are those of the bytes.
    pub(crate) fn artifact(&self, bytes: &[u8]) -> Artifact {
        let path = self.dir.path().join("artifact");
        fs::write(&path, bytes).unwrap();
        Artifact {
            path,
            size: bytes.len() as u64,
            sha256: Sha256Digest::of(bytes).unwrap(),
        }
    }

    pub(crate) fn stage(&self, bytes: &[u8]) -> Result<Release, ReleaseError> {
        block_on(self.store.stage(id(1), &self.artifact(bytes)))
    }

    /// Asserts that the archive is refused and nothing is changed by it, and tells why.
    pub(crate) fn refused(&self, bytes: &[u8]) -> ArchiveError {
        match self.stage(bytes) {
            Err(ReleaseError::Refused { source, .. }) => {
                self.assert_untouched();
                source
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn assert_untouched(&self) {
        assert_eq!(names(&self.app()), ["releases"]);
        assert_eq!(
            names(&self.app().join("releases")),
            [] as [&str; 0],
            "left behind"
        );
        assert_eq!(names(self.dir.path()), ["app", "artifact", "victim"]);
        assert_eq!(
            fs::read_to_string(self.dir.path().join("victim")).unwrap(),
            "unharmed"
        );
    }
}

/// The sorted names in a directory, the hidden ones too.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
