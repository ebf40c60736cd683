use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use crate::ArchiveError;
use crate::printable::printable;

/// The longest extended header. A name can have 4,096 bytes; headers are held in memory.
const MAX_EXTENDED: u64 = 64 * 1024;
/// The most extended headers before one member: a GNU name, a GNU link, pax, pax global.
const MAX_EXTENSIONS: usize = 4;
/// The most padding after the end: writers fill up blocks, of 10 KiB unless told otherwise.
const MAX_PADDING: u64 = 1024 * 1024;

/// One thing that an archive holds.
pub(crate) struct Member {
    /// Its name, as the archive has it.
    pub(crate) name: PathBuf,
    pub(crate) kind: MemberKind,
    /// The permission bits, among them those that no release may have.
    pub(crate) mode: u32,
    /// The length of its content.
    pub(crate) size: u64,
}

pub(crate) enum MemberKind {
    File,
    Directory,
    /// What the link points at, as the archive has it.
    Symlink(PathBuf),
    /// The earlier member that it is the same file as, as the archive has it.
    HardLink(PathBuf),
}

/// Calls `each` with every member of a tar.gz archive and a reader of its content.
///
/// The archive's own iterator is used in its raw mode: otherwise it reads long names into memory
/// however long they are, takes an archive that was cut between two members for a whole one, and
/// does not mind what follows the end.
pub(crate) fn for_each_member<R: BufRead, E: From<ArchiveError>>(
    archive: R,
    max_bytes: u64,
    mut each: impl FnMut(Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let position = Rc::new(Cell::new(0));
    let counted = Counted {
        inner: GzDecoder::new(archive),
        position: Rc::clone(&position),
    };
    let mut archive = Archive::new(counted);
    let mut end_of_last = 0;
    let mut bytes_left = max_bytes;
    let mut extensions = Extensions::default();
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let size = entry.header().entry_size().map_err(broken)?;
        bytes_left = bytes_left
            .checked_sub(size)
            .ok_or(ArchiveError::TooManyBytes { limit: max_bytes })?;
        end_of_last = entry
            .raw_file_position()
            .saturating_add(size.next_multiple_of(512));
        if !extensions.take(&mut entry, size)? {
            let member = member(&entry, std::mem::take(&mut extensions), size)?;
            each(member, &mut entry)?;
        }
    }
    if extensions.count > 0 || position.get() < end_of_last.saturating_add(512) {
        // Extended headers that nothing follows, or no block of zeros at the end.
        return Err(ArchiveError::Truncated.into());
    }
    Ok(check_end(archive.into_inner())?)
}

/// What extended headers say about the next member.
#[derive(Default)]
struct Extensions {
    count: usize,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
}

impl Extensions {
    /// Takes the entry in if it is an extended header, and says whether it was one.
    fn take(&mut self, entry: &mut Entry<'_, impl Read>, size: u64) -> Result<bool, ArchiveError> {
        let slot = match entry.header().entry_type() {
            EntryType::GNULongName => &mut self.name,
            EntryType::GNULongLink => &mut self.link,
            EntryType::XHeader => &mut self.pax,
            // Comments, of `git archive` for one. Nothing that concerns a release.
            EntryType::XGlobalHeader => &mut None,
            _ => return Ok(false),
        };
        self.count += 1;
        if size > MAX_EXTENDED || slot.is_some() || self.count > MAX_EXTENSIONS {
            return Err(ArchiveError::ExtendedHeader);
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        if (content.len() as u64) < size {
            return Err(ArchiveError::Truncated);
        }
        *slot = Some(content);
        Ok(true)
    }

    /// The values of the pax records that matter, instead of those in the header.
    fn read_pax(&mut self, size: u64) -> Result<(), ArchiveError> {
        let Some(pax) = self.pax.take() else {
            return Ok(());
        };
        for record in PaxExtensions::new(&pax) {
            let record = record.map_err(|_| ArchiveError::ExtendedHeader)?;
            match record.key_bytes() {
                b"path" => self.name = Some(record.value_bytes().to_owned()),
                b"linkpath" => self.link = Some(record.value_bytes().to_owned()),
                // Where header and record differ, readers disagree on where the member ends.
                b"size" if record.value_bytes() != size.to_string().as_bytes() => {
                    return Err(ArchiveError::ExtendedHeader);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    let name = printable(OsStr::from_bytes(self.name.as_deref().unwrap_or(b"?")));
                    return Err(ArchiveError::Unsupported { name, kind: SPARSE });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const SPARSE: &str = "a sparse file, which can't be unpacked";

fn member(
    entry: &Entry<'_, impl Read>,
    mut extensions: Extensions,
    size: u64,
) -> Result<Member, ArchiveError> {
    extensions.read_pax(size)?;
    let header = entry.header();
    let name = path(
        extensions
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned()),
    )?;
    let link = extensions
        .link
        .or_else(|| header.link_name_bytes().map(Into::into));
    let link = path(link.unwrap_or_default())?;
    let kind = match header.entry_type() {
        EntryType::Regular => MemberKind::File,
        EntryType::Directory => MemberKind::Directory,
        EntryType::Symlink => MemberKind::Symlink(link),
        EntryType::Link => MemberKind::HardLink(link),
        other => {
            let kind = match other {
                EntryType::Char | EntryType::Block => "a device",
                EntryType::Fifo => "a pipe",
                EntryType::GNUSparse => SPARSE,
                _ => "of a kind that can't be unpacked",
            };
            return Err(ArchiveError::Unsupported {
                name: printable(name),
                kind,
            });
        }
    };
    let mode = header.mode().map_err(broken)?;
    Ok(Member {
        name,
        kind,
        mode,
        size,
    })
}

/// A GNU name ends with a NUL, a name in a header or in a pax record with its field.
fn path(mut bytes: Vec<u8>) -> Result<PathBuf, ArchiveError> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    let path = PathBuf::from(OsStr::from_bytes(&bytes));
    if bytes.contains(&0) {
        return Err(ArchiveError::UnsafeName {
            name: printable(path),
        });
    }
    Ok(path)
}

/// Nothing but padding may follow: first in the tar stream, then after the gzip stream, whose own
/// checksum is verified on the way.
fn check_end<R: BufRead>(counted: Counted<GzDecoder<R>>) -> Result<(), ArchiveError> {
    let mut gzip = counted.inner;
    let mut padding = 0;
    let mut buffer = [0; 8192];
    loop {
        match gzip.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                padding += read as u64;
                if padding > MAX_PADDING || buffer[..read].iter().any(|byte| *byte != 0) {
                    return Err(ArchiveError::TrailingData);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
    let rest = gzip.get_mut().fill_buf().map_err(broken)?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(ArchiveError::TrailingData)
    }
}

/// What a failure to read the archive means.
pub(crate) fn broken(source: io::Error) -> ArchiveError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        _ => ArchiveError::Corrupt { source },
    }
}

/// Knows how much was read through it.
struct Counted<R> {
    inner: R,
    position: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position.set(self.position.get() + read as u64);
        Ok(read)
    }
}
