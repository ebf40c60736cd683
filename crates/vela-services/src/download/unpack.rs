use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use flate2::read::GzDecoder;

use super::error::{DownloadError, write_failed};

/// More than any program has: an archive may claim to be anything.
const MAX_BYTES: u64 = 1 << 30;

/// Copies the one file called `program`, in whatever directory, out of a `tar.gz`.
pub(super) fn unpack(
    mut archive: File,
    program: &'static str,
    binary: &mut File,
    dir: &Path,
) -> Result<(), DownloadError> {
    archive.rewind().map_err(write_failed(dir))?;
    // What is unpacked is bounded as a whole, entries that are skipped too.
    let unpacked = GzDecoder::new(archive).take(MAX_BYTES);
    let mut tar = tar::Archive::new(unpacked);
    for entry in tar.entries().map_err(DownloadError::NotAnArchive)? {
        let mut entry = entry.map_err(DownloadError::NotAnArchive)?;
        let is_program = entry.header().entry_type().is_file()
            && entry
                .path()
                .is_ok_and(|path| path.file_name().is_some_and(|name| name == program));
        if is_program {
            let size = entry.size();
            let copied = copy(&mut entry, binary, dir)?;
            if copied < size {
                let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(DownloadError::NotAnArchive(cut));
            }
            return Ok(());
        }
    }
    Err(DownloadError::NoProgram { program })
}

/// Tells an archive that can't be read from a disk that can't be written.
fn copy(entry: &mut impl Read, binary: &mut File, dir: &Path) -> Result<u64, DownloadError> {
    let mut piece = vec![0; 64 << 10];
    let mut copied = 0;
    loop {
        match entry.read(&mut piece) {
            Ok(0) => return Ok(copied),
            Ok(length) => {
                binary
                    .write_all(&piece[..length])
                    .map_err(write_failed(dir))?;
                copied += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DownloadError::NotAnArchive(error)),
        }
    }
}
