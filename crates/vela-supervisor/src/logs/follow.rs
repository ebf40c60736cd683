use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use futures::stream::{self, BoxStream, StreamExt};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::{LogLine, rotated, tail::tail_of};
use crate::kernel;

/// The lines written from now on, across rotations, as they are written. Does not poll; never ends.
///
/// The log need not exist yet, its directory must. Dropping the stream stops it.
///
/// # Errors
/// When the directory cannot be watched. An item is an error when the log can no longer be read;
/// the stream ends with it.
///
/// # Panics
/// Outside a tokio runtime.
pub fn follow(path: &Path) -> io::Result<BoxStream<'static, io::Result<LogLine>>> {
    tail_and_follow(path, 0)
}

/// The last lines, then the lines written from now on, with none missing or doubled in between.
///
/// # Errors
/// As for [`follow`] and [`tail`](super::tail()).
///
/// # Panics
/// Outside a tokio runtime.
pub fn tail_and_follow(
    path: &Path,
    lines: usize,
) -> io::Result<BoxStream<'static, io::Result<LogLine>>> {
    // Watched before the first look, so that nothing is written between the two unseen.
    let events = kernel::watch(watch_directory(path)?)?;
    let (cursor, ready) = Cursor::at_end(path, lines)?;
    let follow = Follow {
        events,
        cursor,
        ready,
        failed: false,
    };
    Ok(stream::unfold(follow, |mut follow| async {
        let item = follow.next().await?;
        Some((item, follow))
    })
    .boxed())
}

struct Follow {
    events: AsyncFd<OwnedFd>,
    cursor: Cursor,
    ready: VecDeque<LogLine>,
    failed: bool,
}

impl Follow {
    async fn next(&mut self) -> Option<io::Result<LogLine>> {
        if self.failed {
            return None;
        }
        let next = self.next_line().await;
        self.failed = next.is_err();
        Some(next)
    }

    async fn next_line(&mut self) -> io::Result<LogLine> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(line);
            }
            // What follows reads a few blocks of the page cache: not worth a thread.
            self.cursor.read_lines(&mut self.ready)?;
            if self.ready.is_empty() {
                let mut guard = self.events.readable().await?;
                discard_events(guard.get_inner())?;
                guard.clear_ready();
            }
        }
    }
}

/// A place in the log.
struct Cursor {
    path: PathBuf,
    /// The file being read, and how far; `None` until the log exists.
    file: Option<(File, u64)>,
    partial: Vec<u8>,
}

impl Cursor {
    /// At the end of the last complete line, with the lines before it.
    fn at_end(path: &Path, lines: usize) -> io::Result<(Self, VecDeque<LogLine>)> {
        let mut cursor = Self {
            path: path.to_owned(),
            file: None,
            partial: Vec::new(),
        };
        let mut newest = open_if_exists(path)?;
        if newest.is_none() {
            newest = open_if_exists(&rotated(path, 1))?; // in the middle of a rotation
        }
        let Some(file) = newest else {
            return Ok((cursor, VecDeque::new()));
        };
        let end = last_newline(&file)?;
        let mut found = VecDeque::new();
        tail_of(&file, end, lines, &mut found)?;
        let mut index = 1;
        let mut missing = 0;
        while found.len() < lines && missing < 2 {
            match open_if_exists(&rotated(path, index))? {
                None => missing += 1, // perhaps in the middle of a rotation
                // Our own file may just have been renamed.
                Some(older) if identity(&older)? == identity(&file)? => {}
                Some(older) => tail_of(&older, older.metadata()?.len(), lines, &mut found)?,
            }
            index += 1;
        }
        cursor.file = Some((file, end));
        Ok((cursor, found))
    }

    /// Reads up to a block of lines, going on to the next file at the end of one that was rotated.
    fn read_lines(&mut self, ready: &mut VecDeque<LogLine>) -> io::Result<()> {
        loop {
            if self.file.is_none() {
                // There was no log; its first file may have been rotated by now.
                let Some(file) = self.oldest()? else {
                    return Ok(());
                };
                self.file = Some((file, 0));
            }
            self.read_block(ready)?;
            if !ready.is_empty() {
                return Ok(());
            }
            let Some(next) = self.successor()? else {
                return Ok(());
            };
            // Once more: it may have grown until it was rotated.
            self.read_block(ready)?;
            if !ready.is_empty() {
                return Ok(());
            }
            self.partial.clear();
            self.file = Some((next, 0));
        }
    }

    fn read_block(&mut self, ready: &mut VecDeque<LogLine>) -> io::Result<()> {
        let Some((file, offset)) = &mut self.file else {
            return Ok(());
        };
        let mut block = [0; 64 << 10];
        while ready.is_empty() {
            let n = file.read_at(&mut block, *offset)?;
            if n == 0 {
                // Half a line that a full disk tore was taken back.
                let end = file.metadata()?.len();
                if end < *offset {
                    *offset = end;
                    self.partial.clear();
                }
                return Ok(());
            }
            *offset += n as u64;
            for part in block[..n].split_inclusive(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(part);
                if let Some(line) = self.partial.strip_suffix(b"\n") {
                    ready.push_back(LogLine::parse(line));
                    self.partial.clear();
                }
            }
        }
        Ok(())
    }

    /// The file that was begun after ours was rotated, if it was.
    fn successor(&self) -> io::Result<Option<File>> {
        let Some((file, _)) = &self.file else {
            return Ok(None);
        };
        loop {
            let Some(index) = self.index_of(file)? else {
                return self.oldest();
            };
            // The next lower number; or, in the middle of a rotation and after one that was cut
            // short, the one below.
            let mut found = None;
            for lower in (0..index).rev() {
                if let Some(candidate) = open_if_exists(&rotated(&self.path, lower))? {
                    found = Some((lower, candidate));
                    break;
                }
            }
            let lower = found.as_ref().map_or(0, |(lower, _)| *lower);
            // If nothing moved between us and what was found, it is our neighbour.
            let gap = (lower + 1..index).all(|between| !rotated(&self.path, between).exists());
            if gap && self.index_of(file)? == Some(index) {
                return Ok(found.map(|(_, candidate)| candidate));
            }
        }
    }

    /// The number that our file has now: the kernel knows the name of an open file. `None` when it
    /// was deleted.
    fn index_of(&self, file: &File) -> io::Result<Option<u32>> {
        let name = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let name = name.file_name().unwrap_or_default().as_bytes();
        let current = self.path.file_name().unwrap_or_default().as_bytes();
        let Some(suffix) = name.strip_prefix(current) else {
            return Ok(None);
        };
        if suffix.is_empty() {
            return Ok(Some(0));
        }
        let number = suffix
            .strip_prefix(b".")
            .and_then(|number| str::from_utf8(number).ok());
        Ok(number.and_then(|number| number.parse().ok()))
    }

    /// Where to begin; and to go on after our file was rotated out, and lines were lost.
    fn oldest(&self) -> io::Result<Option<File>> {
        let mut oldest = None;
        let mut missing = 0;
        for index in 0.. {
            match open_if_exists(&rotated(&self.path, index))? {
                Some(file) => (oldest, missing) = (Some(file), 0),
                None if missing > 0 => break,
                None => missing += 1,
            }
        }
        Ok(oldest)
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn open_if_exists(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The end of the last complete line.
fn last_newline(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end > 0 {
        let mut block = [0; 4096];
        let start = end.saturating_sub(block.len() as u64);
        let n = file.read_at(&mut block[..(end - start) as usize], start)?;
        if let Some(at) = block[..n].iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The directory rather than the file, which comes and goes.
fn watch_directory(path: &Path) -> io::Result<OwnedFd> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let events = inotify::init(flags)?;
    let changes = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&events, parent.unwrap_or(Path::new(".")), changes)?;
    Ok(events)
}

/// That something happened is all we need to know.
fn discard_events(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    loop {
        match rustix::io::read(events, &mut buffer) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogSpec;
    use crate::logs::{LineBuffer, LogStream, LogWriter};

    fn write(writer: &mut LogWriter, text: &str) {
        writer.write(LogStream::Out, &mut LineBuffer::default(), text.as_bytes());
    }

    async fn take(lines: &mut BoxStream<'static, io::Result<LogLine>>, n: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < n {
            taken.push(lines.next().await.unwrap().unwrap().text);
        }
        taken
    }

    #[tokio::test]
    async fn starts_with_a_log_that_does_not_exist_yet() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec::new(dir.path().join("app.log"));
        let mut lines = follow(&spec.path).unwrap();
        let task = tokio::spawn(async move { take(&mut lines, 2).await });
        tokio::task::yield_now().await;
        let mut writer = LogWriter::open(spec).unwrap();
        write(&mut writer, "one\ntwo\n");
        assert_eq!(task.await.unwrap(), ["one", "two"]);
    }

    #[tokio::test]
    async fn tail_joins_follow_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec {
            max_bytes: 60,
            ..LogSpec::new(dir.path().join("app.log"))
        };
        let mut writer = LogWriter::open(spec.clone()).unwrap();
        for n in 0..5 {
            write(&mut writer, &format!("{n}\n"));
        }
        let mut lines = tail_and_follow(&spec.path, 3).unwrap();
        let mut fresh = follow(&spec.path).unwrap();
        write(&mut writer, "5\n6\n");
        assert_eq!(take(&mut lines, 5).await, ["2", "3", "4", "5", "6"]);
        assert_eq!(take(&mut fresh, 2).await, ["5", "6"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_burst_over_many_rotations_arrives_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let spec = LogSpec {
            max_bytes: 4000,
            keep: 500,
            ..LogSpec::new(dir.path().join("app.log"))
        };
        let mut lines = follow(&spec.path).unwrap();
        let thread = std::thread::spawn(move || {
            let mut writer = LogWriter::open(spec).unwrap();
            for n in 0..5000 {
                write(&mut writer, &format!("{n}\n"));
            }
        });
        let expected: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
        assert_eq!(take(&mut lines, 5000).await, expected);
        thread.join().unwrap();
    }
}
