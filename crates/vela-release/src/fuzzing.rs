//! Archives that others have packed, as a function of bytes that panics where something is wrong.
//! For `fuzz/` and for `tests/fuzzing.rs`: nothing here is for users.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicBool;

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, EntryType, Header};
use tempfile::TempDir;

use crate::unpack::Unpack;
use crate::{Limits, ReleaseError};

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[("upload", upload)];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(one, _)| *one == name);
    let (_, run) = target.expect("the name is in the table above");
    run(bytes);
}

const LIMITS: Limits = Limits {
    max_files: 12,
    max_bytes: 4096,
};
/// What stands between the members of an archive, and between the parts of one.
const MEMBER: u8 = 0xfe;
const PART: u8 = 0xff;
/// The first byte of bytes that are the archive itself.
const AS_IT_IS: u8 = b'@';

/// The bytes are an archive, or say what one has: the kind and mode of each member, its name, its
/// link, its content, its size if that is another.
fn upload(bytes: &[u8]) {
    let archive = match bytes.split_first() {
        Some((&AS_IT_IS, archive)) => archive.to_vec(),
        _ => packed(&tar(bytes)),
    };
    let dir = TempDir::new().expect("a directory for files of its own");
    let beside = |name: &str| dir.path().join(name);
    let (victim, path, into) = (beside("victim"), beside("archive"), beside("release"));
    fs::write(&victim, "unharmed").expect("a file");
    fs::write(&path, &archive).expect("a file");
    fs::create_dir(&into).expect("a directory");
    let before = look(&victim);

    let unpack = Unpack {
        id: "20260305-143022".parse().expect("an id"),
        into: &into,
        limits: LIMITS,
        owner: None,
        durable: false,
        cancelled: &AtomicBool::new(false),
    };
    let unpacked = unpack.run(File::open(&path).expect("the file above"));
    assert_eq!(look(&victim), before);
    let outside = names(dir.path());
    assert_eq!(outside, ["archive", "release", "victim"].map(PathBuf::from));
    let found = Found::in_release(&into);
    match unpacked {
        Ok(()) => {
            if !is_disputed(&archive) {
                assert_eq!(found.files, as_tar_reads(&archive));
            }
        }
        // Too long a name. Nothing else is left to the kernel to refuse.
        Err(ReleaseError::Io { source, .. }) => {
            assert_eq!(source.kind(), ErrorKind::InvalidFilename, "{source}");
        }
        Err(error) => assert!(matches!(error, ReleaseError::Refused { .. }), "{error:?}"),
    }
}

/// A file's content, and what else could be changed of it.
fn look(path: &Path) -> (Vec<u8>, u32, u64) {
    let about = fs::metadata(path).expect("it is there");
    let content = fs::read(path).expect("it can be read");
    (content, about.mode(), about.nlink())
}

/// The sorted names in a directory.
fn names(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("it is there");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").file_name().into())
        .collect();
    names.sort();
    names
}

/// What a release has.
#[derive(Debug, Default)]
struct Found {
    /// The content of each file, and what each link leads to.
    files: BTreeMap<PathBuf, Vec<u8>>,
    count: u64,
    bytes: u64,
}

impl Found {
    /// Fails at what no release may have, whether it is complete or not.
    fn in_release(root: &Path) -> Found {
        let mut found = Found::default();
        found.add(root, Path::new(""));
        assert!(found.count <= LIMITS.max_files && found.bytes <= LIMITS.max_bytes);
        found
    }

    fn add(&mut self, root: &Path, dir: &Path) {
        for name in names(&root.join(dir)) {
            self.count += 1;
            let name = dir.join(name);
            let path = root.join(&name);
            let about = fs::symlink_metadata(&path).expect("it is there");
            let kind = about.file_type();
            if kind.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                assert!(stays(root, &name, &target, 40), "{name:?} -> {target:?}");
                self.files
                    .insert(name, target.into_os_string().into_encoded_bytes());
                continue;
            }
            assert_eq!(about.mode() & 0o7000, 0, "{name:?}");
            if kind.is_dir() {
                self.add(root, &name);
            } else {
                assert!(kind.is_file(), "{name:?}");
                let content = fs::read(&path).expect("a file that its owner can read");
                self.bytes += content.len() as u64;
                self.files.insert(name, content);
            }
        }
    }
}

/// Whether a link leads to something inside the release, by whatever links are in its way. That
/// need not exist; and after so many links the kernel gives up.
fn stays(root: &Path, link: &Path, target: &Path, links_left: u32) -> bool {
    let mut at = link.parent().unwrap_or(Path::new("")).to_owned();
    let mut parts: Vec<_> = target.components().collect();
    parts.reverse();
    while let Some(part) = parts.pop() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !at.pop() {
                    return false;
                }
            }
            Component::Normal(name) => {
                at.push(name);
                if let Ok(next) = fs::read_link(root.join(&at)) {
                    let Some(links_left) = links_left.checked_sub(1) else {
                        return true;
                    };
                    let rest: PathBuf = parts.iter().rev().collect();
                    return stays(root, &at, &next.join(rest), links_left);
                }
            }
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// The same of an archive by the crate that reads tar for others, which goes its own way about
/// extended headers.
fn as_tar_reads(archive: &[u8]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut archive = Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("a member");
        let name: PathBuf = plain(&entry.path().expect("a name"));
        let link = entry.link_name().expect("a link or none").map(Into::into);
        let link: PathBuf = link.unwrap_or_default();
        let content = match entry.header().entry_type() {
            EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("its content");
                content
            }
            EntryType::Symlink => link.into_os_string().into_encoded_bytes(),
            EntryType::Link => files[&plain(&link)].clone(),
            _ => continue,
        };
        files.insert(name, content);
    }
    files
}

/// Whether a member's extended headers are of both kinds, or global: of those GNU tar makes the same
/// as this crate, and the other one something else.
fn is_disputed(archive: &[u8]) -> bool {
    let (mut is_gnu, mut is_pax) = (false, false);
    let mut archive = Archive::new(GzDecoder::new(archive));
    let mut kinds = archive
        .entries()
        .expect("an archive")
        .raw(true)
        .map(|entry| {
            let entry = entry.expect("a member");
            entry.header().entry_type()
        });
    kinds.any(|kind| {
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink => is_gnu = true,
            EntryType::XHeader => is_pax = true,
            EntryType::XGlobalHeader => return true,
            _ => (is_gnu, is_pax) = (false, false),
        }
        is_gnu && is_pax
    })
}

/// A path without its dots.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

/// A tar archive block by block, each with a checksum that matches it.
fn tar(members: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for member in members.split(|&byte| byte == MEMBER) {
        let parts: Vec<_> = member.split(|&byte| byte == PART).collect();
        let part = |at: usize| parts.get(at).copied().unwrap_or_default();
        let text = |at: usize| std::str::from_utf8(part(at)).ok();
        let Some((kind, mode)) = part(0).split_first() else {
            continue;
        };
        let mode = std::str::from_utf8(mode).ok();
        let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let size = text(4).and_then(|size| size.parse().ok());
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        for (field, value) in [(&mut old.name, part(1)), (&mut old.linkname, part(2))] {
            let length = value.len().min(field.len());
            field[..length].copy_from_slice(&value[..length]);
        }
        header.set_entry_type(EntryType::new(*kind));
        header.set_mode(mode.unwrap_or(0o644));
        header.set_size(size.unwrap_or(part(3).len() as u64));
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(part(3));
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory does not fail")
}
