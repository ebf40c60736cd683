use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use crate::confine::{MAX_DEPTH, link_is_confined};
use crate::digest::HashingWriter;
use crate::{PackError, Sha256Digest};

/// How many bytes of one file pass between two calls of the progress callback.
const PROGRESS_EVERY: u64 = 256 * 1024;

/// Packs a file, or what a directory holds, as a tar.gz archive.
///
/// A file becomes an archive of that one file; a directory's entries lie at the archive's root.
/// Modes and symbolic links are kept; owners, times and extended attributes are not, and names
/// are sorted, so the same files make the same bytes. Files are streamed, never held in memory.
/// `progress` is called after each file, and every 256 KiB within a large one.
///
/// What a [`ReleaseStore`](crate::ReleaseStore) would refuse to unpack is an error here already,
/// before anything is uploaded. After an error, what was written to `out` is worthless.
///
/// Blocks on files and CPU: in async code call it through `spawn_blocking`.
///
/// # Errors
///
/// The first file that can't be packed, or `out` can't be written to.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let source = dir.path().join("my-app");
/// std::fs::write(&source, "#!/bin/sh\n")?;
/// let mut archive = Vec::new();
/// let packed = vela_release::pack(&source, &mut archive, &mut |_| {})?;
/// assert_eq!((packed.files, packed.bytes), (1, 10));
/// assert_eq!(packed.size, archive.len() as u64);
/// # Ok(())
/// # }
/// ```
pub fn pack(
    source: &Path,
    out: impl Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Packed, PackError> {
    let metadata = fs::metadata(source).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PackError::NotFound {
            path: source.to_owned(),
        },
        _ => PackError::read(source)(error),
    })?;
    let gzip = GzEncoder::new(HashingWriter::new(out), Compression::fast());
    let mut packer = Packer {
        tar: Builder::new(gzip),
        done: Progress::default(),
        progress,
    };
    match source.file_name() {
        _ if metadata.is_dir() => packer.directory(source, Path::new(""), 1)?,
        _ if metadata.is_file() && metadata.len() == 0 => {
            return Err(PackError::Empty {
                path: source.to_owned(),
            });
        }
        Some(name) if metadata.is_file() => packer.file(source, Path::new(name))?,
        _ => return Err(unsupported(source, &metadata)),
    }
    packer.finish(source)
}

/// How far packing has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files and links packed so far.
    pub files: u64,
    /// Bytes of them so far, before compression.
    pub bytes: u64,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The archive's size in bytes.
    pub size: u64,
    /// The archive's checksum.
    pub sha256: Sha256Digest,
    /// How many files and links it holds.
    pub files: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
}

struct Packer<'a, W: Write> {
    tar: Builder<GzEncoder<HashingWriter<W>>>,
    done: Progress,
    progress: &'a mut dyn FnMut(Progress),
}

impl<W: Write> Packer<'_, W> {
    fn directory(&mut self, path: &Path, name: &Path, depth: usize) -> Result<(), PackError> {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(PackError::read(path))?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            if depth > MAX_DEPTH {
                return Err(PackError::TooDeep {
                    path: entry.path(),
                    limit: MAX_DEPTH,
                });
            }
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let metadata = entry.metadata().map_err(PackError::read(&path))?;
            if metadata.is_symlink() {
                self.link(&path, &name)?;
            } else if metadata.is_dir() {
                let mut header = header(EntryType::Directory, metadata.mode(), 0);
                self.tar
                    .append_data(&mut header, &name, io::empty())
                    .map_err(|source| PackError::Write { source })?;
                self.directory(&path, &name, depth + 1)?;
            } else if metadata.is_file() {
                self.file(&path, &name)?;
            } else {
                return Err(unsupported(&path, &metadata));
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, name: &Path) -> Result<(), PackError> {
        let target = fs::read_link(path).map_err(PackError::read(path))?;
        if !link_is_confined(name, &target) {
            return Err(PackError::UnsafeLink {
                path: path.to_owned(),
                target,
            });
        }
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.tar
            .append_link(&mut header, name, &target)
            .map_err(|source| PackError::Write { source })?;
        self.file_done();
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &Path) -> Result<(), PackError> {
        let file = File::open(path).map_err(PackError::read(path))?;
        let before = file.metadata().map_err(PackError::read(path))?;
        if before.mode() & 0o6000 != 0 {
            return Err(PackError::SetId {
                path: path.to_owned(),
            });
        }
        let mut header = header(EntryType::Regular, before.mode(), before.len());
        let mut reader = SourceReader {
            file: (&file).take(before.len()),
            failure: None,
            done: &mut self.done,
            reported: 0,
            progress: self.progress,
        };
        let appended = self.tar.append_data(&mut header, name, &mut reader);
        let missing = reader.file.limit();
        if let Some(source) = reader.failure {
            return Err(PackError::Read {
                path: path.to_owned(),
                source,
            });
        }
        appended.map_err(|source| PackError::Write { source })?;
        let after = file.metadata().map_err(PackError::read(path))?;
        if missing > 0 || after.len() != before.len() {
            return Err(PackError::Changed {
                path: path.to_owned(),
            });
        }
        self.file_done();
        Ok(())
    }

    fn file_done(&mut self) {
        self.done.files += 1;
        (self.progress)(self.done);
    }

    fn finish(self, source: &Path) -> Result<Packed, PackError> {
        let Progress { files, bytes } = self.done;
        if files == 0 {
            return Err(PackError::Empty {
                path: source.to_owned(),
            });
        }
        let gzip = self
            .tar
            .into_inner()
            .map_err(|source| PackError::Write { source })?;
        let hashed = gzip
            .finish()
            .map_err(|source| PackError::Write { source })?;
        let (size, sha256) = hashed
            .finish()
            .map_err(|source| PackError::Write { source })?;
        Ok(Packed {
            size,
            sha256,
            files,
            bytes,
        })
    }
}

/// Reads a file into the archive, tells how far it is, and keeps an error of reading apart from
/// one of writing, which the archive's builder would mix.
struct SourceReader<'a> {
    file: io::Take<&'a File>,
    failure: Option<io::Error>,
    done: &'a mut Progress,
    reported: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Read for SourceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Ok(read) => {
                self.done.bytes += read as u64;
                self.reported += read as u64;
                if self.reported >= PROGRESS_EVERY {
                    self.reported = 0;
                    (self.progress)(*self.done);
                }
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// A header that depends on nothing but the file itself. Of a directory's mode, the bits for
/// inheriting groups and for shared directories say something about the machine, not the release.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn unsupported(path: &Path, metadata: &Metadata) -> PackError {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "no file or directory",
    };
    PackError::Unsupported {
        path: PathBuf::from(path),
        kind,
    }
}
