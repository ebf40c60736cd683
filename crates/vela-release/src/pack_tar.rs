use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Archive, EntryType};

use crate::digest::HashingWriter;
use crate::{PackError, Packed, Progress};

/// How many bytes of a file are shown: enough to tell what it is.
const HEAD: usize = 256;

/// A file or link in a tar archive of another program's.
#[derive(Debug)]
pub struct TarFile<'a> {
    /// Its name.
    pub path: &'a Path,
    /// Its bytes.
    pub size: u64,
    /// The first of them, at most 256.
    pub head: &'a [u8],
    /// What came before it.
    pub done: Progress,
}

/// Compresses a tar archive that another program writes, `git archive` for one, and shows each
/// file in it to `each`. The tar stream is kept as it is, byte by byte, and never held in memory.
///
/// Whether the archive holds what a server would refuse is not checked.
///
/// Blocks on the reader and CPU: in async code call it through `spawn_blocking`.
///
/// # Errors
///
/// The stream can't be read, is no tar archive, holds no file, or `out` can't be written to.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut tar = tar::Builder::new(Vec::new());
/// let mut header = tar::Header::new_gnu();
/// header.set_size(5);
/// tar.append_data(&mut header, "greeting", &b"hello"[..])?;
/// let tar = tar.into_inner()?;
///
/// let mut seen = Vec::new();
/// let mut out = Vec::new();
/// let packed = vela_release::pack_tar(&tar[..], &mut out, &mut |file| {
///     seen.push((file.path.display().to_string(), file.head.to_vec()));
/// })?;
/// assert_eq!(seen, [("greeting".to_owned(), b"hello".to_vec())]);
/// assert_eq!((packed.files, packed.bytes, packed.size), (1, 5, out.len() as u64));
/// # Ok(())
/// # }
/// ```
pub fn pack_tar(
    tar: impl Read,
    out: impl Write,
    each: &mut dyn FnMut(TarFile<'_>),
) -> Result<Packed, PackError> {
    let mut tee = Tee {
        from: tar,
        to: GzEncoder::new(HashingWriter::new(out), Compression::fast()),
        unwritten: None,
    };
    let shown = show(&mut tee, each);
    if let Some(source) = tee.unwritten {
        return Err(PackError::Write { source });
    }
    let Progress { files, bytes } = shown.map_err(|source| PackError::BrokenTar { source })?;
    if files == 0 {
        let path = PathBuf::from(".");
        return Err(PackError::Empty { path });
    }
    let finished = tee.to.finish().and_then(HashingWriter::finish);
    let (size, sha256) = finished.map_err(|source| PackError::Write { source })?;
    Ok(Packed {
        size,
        sha256,
        files,
        bytes,
    })
}

fn show(tar: &mut impl Read, each: &mut dyn FnMut(TarFile<'_>)) -> io::Result<Progress> {
    let mut done = Progress::default();
    let mut archive = Archive::new(&mut *tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Directory | EntryType::XGlobalHeader) {
            continue;
        }
        let mut head = Vec::new();
        entry.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        let (path, size) = (entry.path()?.into_owned(), entry.size());
        each(TarFile {
            path: &path,
            size,
            head: &head,
            done,
        });
        done.files += 1;
        done.bytes += size;
    }
    // The padding after the end belongs to the archive as well.
    io::copy(tar, &mut io::sink())?;
    Ok(done)
}

/// Passes on what is read through it.
struct Tee<R, W> {
    from: R,
    to: W,
    /// Kept apart from an error of reading.
    unwritten: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        match self.to.write_all(&buffer[..read]) {
            Ok(()) => Ok(read),
            Err(error) => {
                let kind = error.kind();
                self.unwritten = Some(error);
                Err(kind.into())
            }
        }
    }
}
