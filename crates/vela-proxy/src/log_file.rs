use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Rotation;

/// A file of lines that grows to a size and is then put aside, by this program or by another.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// The file's own, to see whether its name has gone to another one.
    identity: (u64, u64),
    /// Devices and pipes stay where they are.
    is_regular: bool,
    size: u64,
    checked: Instant,
    /// A line was written in part, and nothing after it yet.
    is_torn: bool,
    /// It could not be put aside, and is not asked to before.
    rotates_from: Option<Instant>,
}

/// Lines that were not written, and why.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) lines: u64,
    pub(crate) error: io::Error,
}

/// How often to look whether the file was moved away.
const CHECK: Duration = Duration::from_secs(1);
/// How long a file that could not be put aside just grows.
const ROTATE_AGAIN: Duration = Duration::from_secs(60);

impl LogFile {
    pub(crate) fn open(path: &Path, rotation: Rotation) -> io::Result<LogFile> {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        }
        let file = open(path)?;
        let metadata = file.metadata()?;
        Ok(LogFile {
            path: path.to_owned(),
            rotation,
            identity: identity(&metadata),
            is_regular: metadata.is_file(),
            size: metadata.len(),
            file,
            checked: Instant::now(),
            is_torn: false,
            rotates_from: None,
        })
    }

    /// Writes whole lines, each to one file. What comes after the first that fails is lost too.
    pub(crate) fn append(&mut self, mut lines: &[u8]) -> Result<(), Lost> {
        if self.checked.elapsed() >= CHECK {
            self.check();
        }
        while !lines.is_empty() {
            let here = self.fitting(lines);
            if let Err(error) = self.write(&lines[..here]) {
                let lost = lines.len() - here + error.unwritten;
                // Of a line that was written in part, its end is left.
                let lost = &lines[lines.len() - lost..];
                return Err(Lost {
                    lines: count_lines(lost),
                    error: error.source,
                });
            }
            lines = &lines[here..];
        }
        Ok(())
    }

    /// How much of `lines` goes into the file as it is now; a full one is put aside before.
    fn fitting(&mut self, lines: &[u8]) -> usize {
        let may_rotate = self.rotates_from.is_none_or(|from| Instant::now() >= from);
        if !self.is_regular || !may_rotate {
            return lines.len();
        }
        let first = line_end(lines).unwrap_or(lines.len());
        let first = u64::try_from(first).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(first) > self.rotation.max_size {
            match self.rotate() {
                Ok(()) => self.rotates_from = None,
                Err(error) => {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "the access log cannot be rotated: it grows on");
                    self.rotates_from = Some(Instant::now() + ROTATE_AGAIN);
                    return lines.len();
                }
            }
        }
        let room = self.rotation.max_size.saturating_sub(self.size).max(first);
        match usize::try_from(room) {
            Ok(room) if room < lines.len() => lines[..room]
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(room, |end| end + 1),
            _ => lines.len(),
        }
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut written = 0;
        let mut failed = None;
        if self.is_torn {
            match self.file.write_all(b"\n") {
                Ok(()) => self.is_torn = false,
                Err(error) => failed = Some(error),
            }
        }
        while failed.is_none() && written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => failed = Some(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failed = Some(error),
            }
        }
        self.size += written as u64;
        match failed {
            None => Ok(()),
            Some(source) => {
                self.is_torn |= lines[..written].last().is_some_and(|&last| last != b'\n');
                Err(Unwritten {
                    unwritten: lines.len() - written,
                    source,
                })
            }
        }
    }

    /// `path.1` becomes `path.2` and so on, the oldest goes; then the file becomes `path.1`, and
    /// there is a new one. A crash in between leaves a gap in the numbers, and loses no file that
    /// was to be kept.
    fn rotate(&mut self) -> io::Result<()> {
        let keep = self.rotation.keep;
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        for number in (1..keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if !is_missing(&error) => return Err(error),
                _ => {}
            }
        }
        let moved = match keep {
            0 => fs::remove_file(&self.path),
            _ => fs::rename(&self.path, self.numbered(1)),
        };
        match moved {
            Err(error) if !is_missing(&error) => Err(error),
            _ => self.reopen(),
        }
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }

    /// Goes where the name is, if another program has put the file aside, and sees how large it
    /// is, if that has truncated it.
    fn check(&mut self) {
        self.checked = Instant::now();
        match fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity => self.size = metadata.len(),
            _ => {
                if let Err(error) = self.reopen() {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "the access log was moved, and cannot be opened anew");
                }
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let opened = LogFile::open(&self.path, self.rotation)?;
        *self = LogFile {
            rotates_from: self.rotates_from,
            ..opened
        };
        Ok(())
    }
}

#[derive(Debug)]
struct Unwritten {
    unwritten: usize,
    source: io::Error,
}

fn open(path: &Path) -> io::Result<File> {
    // What clients send is not for everybody's eyes.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Where the first line ends.
fn line_end(lines: &[u8]) -> Option<usize> {
    Some(lines.iter().position(|&byte| byte == b'\n')? + 1)
}

pub(crate) fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(max_size: u64, keep: usize) -> Rotation {
        Rotation { max_size, keep }
    }

    fn read(path: &Path, number: usize) -> Option<String> {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        fs::read_to_string(name).ok()
    }

    #[test]
    fn a_full_file_is_put_aside_and_as_many_are_kept_as_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/access.log");
        let mut file = LogFile::open(&path, rotation(8, 2)).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode & !0o640, 0, "{mode:o}");
        // In one piece and in several; a line longer than the limit is whole nonetheless.
        file.append(b"one\ntwo\nthree\n").unwrap();
        file.append(b"longer than all\n").unwrap();
        file.append(b"four\n").unwrap();
        assert_eq!(read(&path, 0).unwrap(), "four\n");
        assert_eq!(read(&path, 1).unwrap(), "longer than all\n");
        assert_eq!(read(&path, 2).unwrap(), "three\n");
        assert_eq!(read(&path, 3), None);

        let mut file = LogFile::open(&path, rotation(8, 0)).unwrap();
        file.append(b"fivefive\n").unwrap();
        assert_eq!(read(&path, 0).unwrap(), "fivefive\n");
        assert_eq!(read(&path, 1).unwrap(), "longer than all\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = LogFile::open(&path, rotation(1000, 1)).unwrap();
        file.append(b"one\n").unwrap();
        let aside = dir.path().join("access.log-20260101");
        fs::rename(&path, &aside).unwrap();
        file.checked = Instant::now() - CHECK;
        file.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), "one\n");
        assert_eq!(read(&path, 0).unwrap(), "two\n");
        // Truncated in place.
        File::create(&path).unwrap();
        file.checked = Instant::now() - CHECK;
        file.append(b"three\n").unwrap();
        assert_eq!(file.size, 6);
        assert_eq!(read(&path, 0).unwrap(), "three\n");
    }

    #[test]
    fn a_disk_that_is_full_loses_lines_and_says_how_many() {
        let mut file = LogFile::open(Path::new("/dev/full"), rotation(1, 1)).unwrap();
        let lost = file.append(b"one\ntwo\n").unwrap_err();
        assert_eq!(lost.lines, 2);
        assert_eq!(lost.error.kind(), io::ErrorKind::StorageFull);
        assert!(!file.is_torn && Path::new("/dev/full").exists());
    }

    #[test]
    fn a_line_written_in_part_ends_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = LogFile::open(&path, rotation(1000, 1)).unwrap();
        file.append(b"one\nhal").unwrap();
        file.is_torn = true;
        file.append(b"two\n").unwrap();
        assert_eq!(read(&path, 0).unwrap(), "one\nhal\ntwo\n");
        assert!(!file.is_torn);
    }
}
