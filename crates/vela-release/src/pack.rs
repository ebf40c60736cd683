use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::FileType;
use tar::{Builder, EntryType, Header};

use crate::beneath;
use crate::confine::{MAX_DEPTH, link_is_confined};
use crate::digest::HashingWriter;
use crate::pack_tree::Guard;
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
/// Nothing but `source` itself is reached through a link, also if somebody changes the files
/// meanwhile: that is an error, or packs the one state or the other.
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
    let mut packer = Packer::new(out, Compression::fast(), Guard::default(), progress);
    match source.file_name() {
        _ if metadata.is_dir() => {
            let directory = File::open(source).map_err(PackError::read(source))?;
            packer.directory(&directory, source, Path::new(""), 1, None)?;
        }
        _ if metadata.is_file() && metadata.len() == 0 => {
            return Err(PackError::Empty {
                path: source.to_owned(),
            });
        }
        Some(name) if metadata.is_file() => {
            let file = File::open(source).map_err(PackError::read(source))?;
            packer.file(&file, source, Path::new(name))?;
        }
        _ => {
            let status = rustix::fs::stat(source).map_err(io::Error::from);
            let status = status.map_err(PackError::read(source))?;
            return Err(unsupported(source, FileType::from_raw_mode(status.st_mode)));
        }
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

/// Which part of a directory is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This, and all that is in it.
    Take,
    /// Not this, but perhaps something in it.
    Descend,
    /// Nothing of it.
    Skip,
}

pub(crate) struct Packer<'a, W: Write> {
    tar: Builder<GzEncoder<HashingWriter<W>>>,
    guard: Guard<'a>,
    done: Progress,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(
        out: W,
        compression: Compression,
        guard: Guard<'a>,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let gzip = GzEncoder::new(HashingWriter::new(out), compression);
        Self {
            tar: Builder::new(gzip),
            guard,
            done: Progress::default(),
            progress,
        }
    }

    /// Packs what is in an open directory. `path` is what errors call it, `name` its name in the
    /// archive; without `pick` all of it is taken.
    pub(crate) fn directory(
        &mut self,
        directory: &File,
        path: &Path,
        name: &Path,
        depth: usize,
        pick: Option<&dyn Fn(&Path) -> Pick>,
    ) -> Result<(), PackError> {
        for entry in beneath::names(directory).map_err(PackError::read(path))? {
            let (path, name) = (path.join(&entry), name.join(&entry));
            let pick = match pick.map(|pick| pick(&name)) {
                Some(Pick::Skip) => continue,
                Some(Pick::Descend) => pick,
                Some(Pick::Take) | None => None,
            };
            if depth > MAX_DEPTH {
                return Err(PackError::TooDeep {
                    path,
                    limit: MAX_DEPTH,
                });
            }
            self.guard.check(self.done)?;
            match beneath::kind(directory, &entry).map_err(PackError::read(&path))? {
                FileType::Directory => {
                    let opened = beneath::open_directory(directory, &entry);
                    let child = opened.map_err(PackError::changed(&path))?;
                    if pick.is_none() {
                        self.directory_entry(&child, &path, &name)?;
                    }
                    self.directory(&child, &path, &name, depth + 1, pick)?;
                }
                // Somebody may look for something in it, but nobody for itself.
                _ if pick.is_some() => {}
                FileType::Symlink => self.link(directory, &entry, &path, &name)?,
                FileType::RegularFile => {
                    let opened = beneath::open_file(directory, &entry);
                    let file = opened.map_err(PackError::changed(&path))?;
                    self.file(&file, &path, &name)?;
                }
                other => return Err(unsupported(&path, other)),
            }
        }
        Ok(())
    }

    fn directory_entry(
        &mut self,
        directory: &File,
        path: &Path,
        name: &Path,
    ) -> Result<(), PackError> {
        let mode = directory.metadata().map_err(PackError::read(path))?.mode();
        let mut header = header(EntryType::Directory, mode, 0);
        self.guard.directories += 1;
        self.tar
            .append_data(&mut header, name, io::empty())
            .map_err(|source| PackError::Write { source })
    }

    fn link(
        &mut self,
        directory: &File,
        entry: &OsStr,
        path: &Path,
        name: &Path,
    ) -> Result<(), PackError> {
        let target = beneath::read_link(directory, entry).map_err(PackError::changed(path))?;
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

    /// Packs an open file.
    pub(crate) fn file(&mut self, file: &File, path: &Path, name: &Path) -> Result<(), PackError> {
        let before = file.metadata().map_err(PackError::read(path))?;
        let changed = || PackError::Changed {
            path: path.to_owned(),
        };
        if !before.is_file() {
            return Err(changed());
        }
        self.guard.check_file(&before, path, self.done)?;
        if before.mode() & 0o6000 != 0 {
            return Err(PackError::SetId {
                path: path.to_owned(),
            });
        }
        let mut header = header(EntryType::Regular, before.mode(), before.len());
        let mut reader = SourceReader {
            file: file.take(before.len()),
            failure: None,
            guard: &self.guard,
            done: &mut self.done,
            reported: 0,
            progress: self.progress,
        };
        let appended = self.tar.append_data(&mut header, name, &mut reader);
        let missing = reader.file.limit();
        if let Some(source) = reader.failure {
            self.guard.check(self.done)?;
            return Err(PackError::Read {
                path: path.to_owned(),
                source,
            });
        }
        appended.map_err(|source| PackError::Write { source })?;
        let after = file.metadata().map_err(PackError::read(path))?;
        if missing > 0 || after.len() != before.len() {
            return Err(changed());
        }
        self.file_done();
        Ok(())
    }

    fn file_done(&mut self) {
        self.done.files += 1;
        (self.progress)(self.done);
    }

    pub(crate) fn finish(self, source: &Path) -> Result<Packed, PackError> {
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
    guard: &'a Guard<'a>,
    done: &'a mut Progress,
    reported: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Read for SourceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.guard.is_cancelled() {
            self.failure = Some(io::ErrorKind::ConnectionAborted.into());
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
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

fn unsupported(path: &Path, kind: FileType) -> PackError {
    let kind = match kind {
        FileType::Socket => "a socket",
        FileType::Fifo => "a pipe",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "no file or directory",
    };
    PackError::Unsupported {
        path: PathBuf::from(path),
        kind,
    }
}
