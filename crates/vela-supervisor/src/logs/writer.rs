use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::{LogStream, rotated};
use crate::LogSpec;

/// A longer line is split.
const LONGEST_LINE: usize = 16 << 10;

/// How much is written at once: a file is larger than its limit by no more than this and prefixes.
const BATCH: usize = 8 << 10;

/// Appends lines to a log file and rotates it.
///
/// Other processes may write to the same path. Rotation is done by whoever holds the lock on the
/// current file, and by nobody while it is held elsewhere; a writer that still has the file that was
/// just rotated writes its lines there, which loses none.
#[derive(Debug)]
pub(crate) struct LogWriter {
    spec: LogSpec,
    file: File,
    batch: Vec<u8>,
    /// The last write left half a line behind.
    torn: bool,
    /// Lines that could not be written since the last one that could.
    lost: u64,
    /// The log says that it cannot be rotated.
    stuck: bool,
}

impl LogWriter {
    pub(crate) fn open(spec: LogSpec) -> io::Result<Self> {
        if let Some(parent) = spec.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = open(&spec)?;
        Ok(Self {
            spec,
            file,
            batch: Vec::new(),
            torn: false,
            lost: 0,
            stuck: false,
        })
    }

    /// Writes the lines that a chunk of output completes.
    pub(crate) fn write(&mut self, stream: LogStream, buffer: &mut LineBuffer, chunk: &[u8]) {
        let prefix = self.prefix(stream);
        for part in chunk.chunks(BATCH) {
            let mut lines = 0;
            buffer.feed(part, |line| {
                lines += 1;
                push_line(&mut self.batch, &prefix, line);
            });
            self.flush(lines);
        }
    }

    /// Writes what the stream ended with, if that was not a newline.
    pub(crate) fn finish(&mut self, stream: LogStream, buffer: &mut LineBuffer) {
        let rest = std::mem::take(&mut buffer.partial);
        if !rest.is_empty() {
            let prefix = self.prefix(stream);
            push_line(&mut self.batch, &prefix, &rest);
            self.flush(1);
        }
    }

    fn prefix(&self, stream: LogStream) -> Vec<u8> {
        let now = Timestamp::now();
        match &self.spec.tag {
            Some(tag) => format!("{now:.3} {stream}@{tag} "),
            None => format!("{now:.3} {stream} "),
        }
        .into_bytes()
    }

    /// Never fails: on a full disk lines are counted instead, and the count is logged once there
    /// is room. Blocking the instance until then would be worse.
    fn flush(&mut self, lines: u64) {
        if lines == 0 {
            return;
        }
        let rotated = self.rotate_when_full();
        let mut head = Vec::new();
        if self.torn {
            head.push(b'\n');
        }
        if self.lost > 0 {
            let note = format!(
                "vela: {} lines were lost, the log could not be written",
                self.lost
            );
            push_line(&mut head, &self.prefix(LogStream::Err), note.as_bytes());
        }
        if let Err(error) = &rotated
            && !self.stuck
        {
            let note = format!("vela: the log cannot be rotated, and grows: {error}");
            push_line(&mut head, &self.prefix(LogStream::Err), note.as_bytes());
        }
        self.batch.splice(..0, head);
        match self.append() {
            Ok(()) => (self.torn, self.lost, self.stuck) = (false, 0, rotated.is_err()),
            Err(_) => self.lost += lines,
        }
        self.batch.clear();
    }

    /// The whole batch, or nothing of it.
    fn append(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.batch.len() {
            let error = match self.file.write(&self.batch[written..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(n) => {
                    written += n;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.torn |= written > 0 && !self.take_back(written).unwrap_or(false);
            return Err(error);
        }
        Ok(())
    }

    /// Whether half a batch could be removed: not if another writer's line follows it already.
    fn take_back(&mut self, written: usize) -> io::Result<bool> {
        let end = self.file.stream_position()?;
        let last = self.file.metadata()?.len() == end;
        if last {
            self.file.set_len(end.saturating_sub(written as u64))?;
        }
        Ok(last)
    }

    /// Makes `self.file` the current file, with room in it. Never waits. If it fails, the file at
    /// hand takes the lines.
    fn rotate_when_full(&mut self) -> io::Result<()> {
        let mine = self.file.metadata()?;
        if !mine.is_file() {
            return Ok(()); // /dev/null and the like
        }
        let is_current = |mine: &fs::Metadata, spec: &LogSpec| match fs::metadata(&spec.path) {
            Ok(current) => Ok(current.ino() == mine.ino() && current.dev() == mine.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        if !is_current(&mine, &self.spec)? {
            self.file = open(&self.spec)?;
            self.torn = false;
            return Ok(());
        }
        if mine.len() < self.spec.max_bytes {
            return Ok(());
        }
        // Another writer rotates now; or a stranger holds the lock, perhaps for ever.
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(()),
            locked => locked?,
        }
        if is_current(&mine, &self.spec)? {
            self.shift()?;
        }
        self.file = open(&self.spec)?;
        self.torn = false;
        Ok(())
    }

    /// From the oldest on, so that a crash between two renames leaves a gap and loses nothing.
    fn shift(&self) -> io::Result<()> {
        if self.spec.keep == 0 {
            return fs::remove_file(&self.spec.path);
        }
        for index in (0..self.spec.keep).rev() {
            let (from, to) = (
                rotated(&self.spec.path, index),
                rotated(&self.spec.path, index + 1),
            );
            match fs::rename(from, to) {
                Err(error) if index == 0 || error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Splits a stream into lines.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    partial: Vec<u8>,
}

impl LineBuffer {
    fn feed(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8])) {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, complete) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            while self.partial.len() + text.len() > LONGEST_LINE {
                let (head, rest) = text.split_at(LONGEST_LINE - self.partial.len());
                self.partial.extend_from_slice(head);
                line(&self.partial);
                self.partial.clear();
                text = rest;
            }
            self.partial.extend_from_slice(text);
            if complete {
                line(&self.partial);
                self.partial.clear();
            }
        }
    }
}

fn push_line(batch: &mut Vec<u8>, prefix: &[u8], line: &[u8]) {
    batch.extend_from_slice(prefix);
    batch.extend_from_slice(line);
    batch.push(b'\n');
}

/// Not through a link: the directory may be writable by the user the instance runs as.
fn open(spec: &LogSpec) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NOCTTY
        | OFlags::NONBLOCK; // a FIFO without a reader is an error, not a wait
    Ok(rustix::fs::open(&spec.path, flags, Mode::from_raw_mode(0o640))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::tail;

    fn spec(dir: &tempfile::TempDir, max_bytes: u64, keep: u32) -> LogSpec {
        LogSpec {
            max_bytes,
            keep,
            ..LogSpec::new(dir.path().join("deep/app.log"))
        }
    }

    fn texts(path: &std::path::Path) -> Vec<String> {
        tail(path, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|line| line.text)
            .collect()
    }

    /// Those of this file alone.
    fn texts_of(path: &std::path::Path) -> Vec<String> {
        let content = fs::read(path).unwrap();
        content
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| crate::logs::LogLine::parse(line.trim_ascii_end()).text)
            .collect()
    }

    #[test]
    fn chunks_become_lines_wherever_they_are_cut() {
        let text = b"one\n\ntwo\nthree";
        for cut in 0..text.len() {
            let mut buffer = LineBuffer::default();
            let mut lines: Vec<Vec<u8>> = Vec::new();
            buffer.feed(&text[..cut], |line| lines.push(line.to_vec()));
            buffer.feed(&text[cut..], |line| lines.push(line.to_vec()));
            assert_eq!(lines, [&b"one"[..], b"", b"two"]);
            assert_eq!(buffer.partial, b"three");
        }
    }

    #[test]
    fn a_long_line_is_split_and_memory_stays_bounded() {
        let mut buffer = LineBuffer::default();
        let mut sizes = Vec::new();
        buffer.feed(&vec![b'x'; 3 * LONGEST_LINE + 5], |line| {
            sizes.push(line.len())
        });
        buffer.feed(b"y\n", |line| sizes.push(line.len()));
        assert_eq!(sizes, [LONGEST_LINE, LONGEST_LINE, LONGEST_LINE, 6]);
        // A line of exactly the limit is one line.
        let mut exact = vec![b'x'; LONGEST_LINE];
        exact.push(b'\n');
        sizes.clear();
        buffer.feed(&exact, |line| sizes.push(line.len()));
        assert_eq!(sizes, [LONGEST_LINE]);
    }

    #[test]
    fn rotation_keeps_so_many_files_and_every_line_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, 200, 3);
        let mut writer = LogWriter::open(spec.clone()).unwrap();
        let mut buffer = LineBuffer::default();
        for n in 0..100 {
            writer.write(
                LogStream::Out,
                &mut buffer,
                format!("line {n}\n").as_bytes(),
            );
        }
        let kept = texts(&spec.path);
        let expected: Vec<_> = (100 - kept.len()..100)
            .map(|n| format!("line {n}"))
            .collect();
        assert_eq!(kept, expected);
        assert!(rotated(&spec.path, 3).exists() && !rotated(&spec.path, 4).exists());
    }

    #[test]
    fn two_writers_share_a_file_without_losing_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, 2000, 1000);
        let threads: Vec<_> = (0..2)
            .map(|who| {
                let spec = LogSpec {
                    tag: Some(format!("w{who}")),
                    ..spec.clone()
                };
                std::thread::spawn(move || {
                    let mut writer = LogWriter::open(spec).unwrap();
                    let mut buffer = LineBuffer::default();
                    for n in 0..2000 {
                        writer.write(LogStream::Err, &mut buffer, format!("{n}\n").as_bytes());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let lines = tail(&spec.path, usize::MAX).unwrap();
        assert_eq!(lines.len(), 4000);
        for who in ["w0", "w1"] {
            let mut mine: Vec<usize> = lines
                .iter()
                .filter(|line| line.tag.as_deref() == Some(who))
                .map(|line| line.text.parse().unwrap())
                .collect();
            mine.sort_unstable();
            assert_eq!(mine, (0..2000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_log_that_was_deleted_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, 1000, 1);
        let mut writer = LogWriter::open(spec.clone()).unwrap();
        fs::remove_file(&spec.path).unwrap();
        writer.write(LogStream::Out, &mut LineBuffer::default(), b"here\n");
        assert_eq!(texts(&spec.path), ["here"]);
    }

    #[test]
    fn a_full_disk_costs_lines_and_says_how_many() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, 1000, 1);
        let mut writer = LogWriter::open(spec.clone()).unwrap();
        let mut buffer = LineBuffer::default();
        let file = std::mem::replace(
            &mut writer.file,
            File::options().write(true).open("/dev/full").unwrap(),
        );
        writer.write(LogStream::Out, &mut buffer, b"a\nb\n");
        writer.write(LogStream::Out, &mut buffer, b"c\n");
        writer.file = file;
        writer.write(LogStream::Out, &mut buffer, b"d\n");
        let texts = texts(&spec.path);
        assert_eq!(
            texts,
            ["vela: 3 lines were lost, the log could not be written", "d"]
        );
    }

    #[test]
    fn a_log_that_cannot_be_rotated_says_so_once_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, 100, 1);
        let mut writer = LogWriter::open(spec.clone()).unwrap();
        let mut buffer = LineBuffer::default();
        let mut write =
            |n: u32| writer.write(LogStream::Out, &mut buffer, format!("{n}\n").as_bytes());
        // A directory with something in it stands in the way.
        let obstacle = rotated(&spec.path, 1);
        fs::create_dir_all(obstacle.join("full")).unwrap();
        (0..10).for_each(&mut write);
        let (notes, lines): (Vec<_>, Vec<_>) = texts_of(&spec.path)
            .into_iter()
            .partition(|text| text.starts_with("vela: "));
        assert_eq!(lines, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("vela: the log cannot be rotated"));

        fs::remove_dir_all(&obstacle).unwrap();
        write(10);
        assert_eq!(texts_of(&spec.path), ["10"]);
        assert_eq!(texts_of(&obstacle).len(), 11);
    }

    #[test]
    fn a_lock_that_a_stranger_holds_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, 100, 1);
        let mut writer = LogWriter::open(spec.clone()).unwrap();
        let mut buffer = LineBuffer::default();
        let stranger = File::open(&spec.path).unwrap();
        flock(&stranger, FlockOperation::LockExclusive).unwrap();
        for n in 0..10 {
            writer.write(LogStream::Out, &mut buffer, format!("{n}\n").as_bytes());
        }
        assert_eq!(texts(&spec.path).len(), 10);
        assert!(!rotated(&spec.path, 1).exists());
        drop(stranger);
        writer.write(LogStream::Out, &mut buffer, b"10\n");
        assert_eq!(texts_of(&spec.path), ["10"]);
    }

    #[test]
    fn half_a_line_swallows_no_other() {
        // The limit that tears it is the whole process'.
        let torn = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logs::writer::tests::torn", "--ignored"])
            .output()
            .unwrap();
        assert!(torn.status.success(), "{torn:?}");
    }

    #[test]
    #[ignore = "run by another test"]
    fn torn() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let ignored = std::sync::Arc::default();
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, 10_000, 1);
        let write = |writer: &mut LogWriter, text: &str| {
            let line = format!("{text}\n");
            writer.write(LogStream::Out, &mut LineBuffer::default(), line.as_bytes());
        };
        let mut one = LogWriter::open(spec.clone()).unwrap();
        let mut other = LogWriter::open(spec.clone()).unwrap();
        write(&mut one, "first");
        let unlimited = getrlimit(Resource::Fsize);
        let current = Some(fs::metadata(&spec.path).unwrap().len() + 30);
        let limit = Rlimit {
            current,
            ..unlimited
        };
        setrlimit(Resource::Fsize, limit).unwrap();
        write(&mut one, &"x".repeat(100));
        setrlimit(Resource::Fsize, unlimited).unwrap();
        write(&mut other, "of another");
        write(&mut one, "last");
        let lost = "vela: 1 lines were lost, the log could not be written";
        assert_eq!(texts(&spec.path), ["first", "of another", lost, "last"]);
    }

    #[test]
    fn links_and_fifos_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link.log");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(LogWriter::open(LogSpec::new(link)).is_err());
        let fifo = dir.path().join("fifo.log");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
        assert!(LogWriter::open(LogSpec::new(fifo)).is_err());
    }
}
