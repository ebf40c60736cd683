use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::log_file::{LogFile, Lost, count_lines};
use crate::metrics::LogTotals;

/// A file with one line of JSON for each request, written aside: no request ever waits for it or
/// fails by it. Give it to a proxy as [`ProxyConfig::access_log`](crate::ProxyConfig::access_log).
///
/// A line is written when its request ends, a tunnel's when the tunnel does. What comes faster
/// than the disk takes it, or while the disk takes nothing, is dropped and counted. A file that
/// was moved away, by logrotate say, is made anew within a second. Lines of the last moments are
/// lost when the machine loses power.
///
/// | field | |
/// | --- | --- |
/// | `time` | when the request's head had come: RFC 3339, UTC, milliseconds |
/// | `app` | the id of its route; missing if it has none |
/// | `client` | the address that asked: the peer, or the one that a trusted proxy names |
/// | `method`, `host`, `path` | as it was asked; `path` with the query |
/// | `protocol`, `scheme` | `HTTP/1.1` and `http`, say |
/// | `status` | what was answered, `499` when the client left before, `101` for a tunnel |
/// | `outcome` | `complete`, or why not: `client_left`, `upstream_left`, `ended_by_proxy` |
/// | `duration_ms` | from the head to the end of the answer |
/// | `bytes_in`, `bytes_out` | of the bodies |
/// | `upstream` | the tag of the one that answered |
/// | `connect_ms` | to open a connection to it; missing where one was kept |
/// | `response_ms` | from there to the begin of its response |
/// | `retries` | how often the request was sent once more; missing if never |
/// | `user_agent`, `referer` | if there are any |
/// | `request_id` | as the upstream is told |
///
/// Long values are cut, which `…` at their end shows; bytes that are no text are written as
/// `\xE4`. Queries are logged whole: an app that puts secrets into its addresses has them in this
/// file, which is for its owner and group alone.
#[derive(Debug)]
pub struct AccessLog {
    sender: Sender<Message>,
    shared: Arc<Shared>,
    /// Closed when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

/// When an access log is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The largest size of a file in bytes. One line is written whole even if it is longer.
    pub max_size: u64,
    /// How many older files are kept beside it, as `access.log.1` and so on, the youngest first.
    pub keep: usize,
}

impl Default for Rotation {
    /// 100 MiB, 5 older files.
    fn default() -> Rotation {
        Rotation {
            max_size: 100 << 20,
            keep: 5,
        }
    }
}

/// Why an access log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the access log {}", path.display())]
#[non_exhaustive]
pub struct AccessLogError {
    /// The log.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl AccessLogError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => {
                Some("its directory must be writable for the proxy's user".to_owned())
            }
            io::ErrorKind::IsADirectory => Some("name a file in that directory".to_owned()),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Tell when all that came before is written.
    Flush(SyncSender<()>),
    End,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Bytes of lines on their way to the writer.
    queued: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    opened: Instant,
    /// When a loss may be told next, in seconds from the opening.
    tell_from: AtomicU64,
}

/// How much may be on its way to the writer: a second's worth of 20,000 requests.
const MOST_QUEUED: usize = 8 << 20;
/// How much is written at a time.
const BATCH: usize = 64 * 1024;
/// How long the writer lets lines gather: whoever sends one meanwhile need not wake it.
const GATHER: Duration = Duration::from_millis(5);
/// How often a loss is told, in seconds.
const TELL_AGAIN: u64 = 60;
/// How long the last lines may take when the log is dropped.
const LAST_LINES: Duration = Duration::from_secs(1);

impl AccessLog {
    /// Opens or makes the file, with mode 0640, and its directory. A file that is there is
    /// appended to.
    ///
    /// # Errors
    /// When the file or the thread that writes it cannot be made.
    pub fn open(path: impl Into<PathBuf>, rotation: Rotation) -> Result<AccessLog, AccessLogError> {
        let path = path.into();
        let at = |source| AccessLogError {
            path: path.clone(),
            source,
        };
        let file = LogFile::open(&path, rotation).map_err(at)?;
        let shared = Arc::new(Shared {
            path: path.clone(),
            queued: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            opened: Instant::now(),
            tell_from: AtomicU64::new(0),
        });
        let (sender, inbox) = channel();
        let (alive, ended) = sync_channel(0);
        let writer = Writer {
            inbox,
            file,
            shared: Arc::clone(&shared),
            _alive: alive,
        };
        thread::Builder::new()
            .name("vela-access-log".to_owned())
            .spawn(|| writer.run())
            .map_err(at)?;
        Ok(AccessLog {
            sender,
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Lines that were dropped since the opening.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Blocks until what was logged before is written or dropped, `patience` at most. Whether it
    /// is. To be called before a program ends, which drops nothing on its way out.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, told) = sync_channel(1);
        let sent = self.sender.send(Message::Flush(done));
        sent.is_ok() && told.recv_timeout(patience).is_ok()
    }

    /// Writes a line, soon. Never waits.
    pub(crate) fn write(&self, line: Vec<u8>) {
        let shared = &self.shared;
        let length = line.len();
        let queued = shared.queued.fetch_add(length, Ordering::Relaxed);
        let has_room = queued.saturating_add(length) <= MOST_QUEUED;
        if !has_room || self.sender.send(Message::Line(line)).is_err() {
            shared.queued.fetch_sub(length, Ordering::Relaxed);
            shared.lose(1, &"it is written too slowly");
        }
    }

    pub(crate) fn totals(&self) -> LogTotals {
        LogTotals {
            written: self.shared.written.load(Ordering::Relaxed),
            dropped: self.dropped(),
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if self.sender.send(Message::End).is_ok() {
            let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            // An error as well: the other end has gone, as it should.
            ended.recv_timeout(LAST_LINES).ok();
        }
    }
}

impl PartialEq for AccessLog {
    /// Whether they are the same log.
    fn eq(&self, other: &AccessLog) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for AccessLog {}

impl Shared {
    fn lose(&self, lines: u64, why: &dyn std::fmt::Display) {
        let dropped = self.dropped.fetch_add(lines, Ordering::Relaxed) + lines;
        let now = self.opened.elapsed().as_secs();
        let from = self.tell_from.load(Ordering::Relaxed);
        let is_due = now >= from
            && self
                .tell_from
                .compare_exchange(from, now + TELL_AGAIN, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            let path = self.path.display();
            tracing::warn!(%path, dropped, %why, "lines of the access log are lost");
        }
    }
}

/// The thread that waits for the disk.
#[derive(Debug)]
struct Writer {
    inbox: Receiver<Message>,
    file: LogFile,
    shared: Arc<Shared>,
    _alive: SyncSender<()>,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        // Without a sender nothing more comes.
        while let Ok(first) = self.inbox.recv() {
            let mut next = Some(first);
            let mut flushed = None;
            let mut ends = false;
            while let Some(message) = next {
                match message {
                    Message::Line(line) => batch.extend_from_slice(&line),
                    Message::Flush(done) => flushed = Some(done),
                    Message::End => ends = true,
                }
                let is_full = batch.len() >= BATCH || flushed.is_some() || ends;
                next = match is_full {
                    true => None,
                    false => self.inbox.try_recv().ok(),
                };
            }
            let was_full = batch.len() >= BATCH;
            self.write(&mut batch);
            if let Some(done) = flushed {
                // Whoever asked may have given up.
                done.try_send(()).ok();
            } else if ends {
                return;
            } else if !was_full {
                thread::sleep(GATHER);
            }
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>) {
        let mut written = count_lines(batch);
        if let Err(Lost { lines, error }) = self.file.append(batch) {
            written -= lines;
            self.shared.lose(lines, &error);
        }
        self.shared.written.fetch_add(written, Ordering::Relaxed);
        self.shared.queued.fetch_sub(batch.len(), Ordering::Relaxed);
        batch.clear();
    }
}
