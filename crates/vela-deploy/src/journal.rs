use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use uuid::Uuid;
use vela_protocol::{Envelope, Event, VERSION};

use crate::clock::Clock;
use crate::durable;
use crate::error::StateError;
use crate::history::{Events, Record};

/// Whether an event must be on disk before the engine goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Synced: an intent, a commit, an end.
    Synced,
    /// Written: lost with a power cut, kept through a crash of the daemon.
    Written,
}

/// The log of one operation: each event goes into its history file, which is what recovery reads, and to everyone
/// who watches.
#[derive(Debug)]
pub(crate) struct Journal {
    file: tokio::fs::File,
    path: PathBuf,
    /// How long the file is up to its last whole line.
    whole_bytes: u64,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
}

impl Journal {
    /// Starts the file `<id>.jsonl` in `dir`, which must not exist.
    pub(crate) async fn create(
        dir: &Path,
        id: &str,
        deploy: Uuid,
        clock: Arc<dyn Clock>,
    ) -> Result<Journal, StateError> {
        durable::make_dir(dir, 0o700).map_err(StateError::at(dir))?;
        let path = dir.join(format!("{id}.jsonl"));
        let file = tokio::fs::OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await;
        let file = file.map_err(StateError::at(&path))?;
        durable::sync_parent(&path).map_err(StateError::at(&path))?;
        Ok(Journal {
            file,
            path,
            whole_bytes: 0,
            feed: Arc::new(Feed::new(deploy)),
            clock,
        })
    }

    /// Goes on with the file of an interrupted operation. A torn last line is cut off.
    pub(crate) async fn reopen(
        record: &Record,
        clock: Arc<dyn Clock>,
    ) -> Result<Journal, StateError> {
        let at = StateError::at(&record.path);
        let file = tokio::fs::OpenOptions::new()
            .append(true)
            .open(&record.path)
            .await
            .map_err(at)?;
        file.set_len(record.whole_bytes)
            .await
            .map_err(StateError::at(&record.path))?;
        let feed = Feed::new(record.deploy());
        record
            .events
            .iter()
            .cloned()
            .for_each(|envelope| feed.push(envelope));
        Ok(Journal {
            file,
            path: record.path.clone(),
            whole_bytes: record.whole_bytes,
            feed: Arc::new(feed),
            clock,
        })
    }

    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Appends an event. Watchers see it once it is as durable as asked for.
    pub(crate) async fn append(
        &mut self,
        event: Event,
        durability: Durability,
    ) -> Result<(), StateError> {
        let envelope = Envelope {
            v: VERSION,
            seq: self.feed.len() as u64,
            time: self.clock.now(),
            deploy: self.feed.deploy,
            event,
        };
        let written = self
            .write(&envelope, durability)
            .await
            .map_err(StateError::at(&self.path));
        self.feed.push(envelope);
        written
    }

    /// Ends the journal of an operation that could not even begin: there is nothing to remember.
    pub(crate) fn discard(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not remove the history of nothing");
        }
    }

    async fn write(&mut self, envelope: &Envelope, durability: Durability) -> io::Result<()> {
        let mut line = serde_json::to_vec(envelope)?;
        line.push(b'\n');
        let written = self.write_line(&line, durability).await;
        match written {
            Ok(()) => self.whole_bytes += line.len() as u64,
            // The part of the line that a full disk took would hide whatever is written after it.
            Err(_) => self.file.set_len(self.whole_bytes).await?,
        }
        written
    }

    async fn write_line(&mut self, line: &[u8], durability: Durability) -> io::Result<()> {
        self.file.write_all(line).await?;
        self.file.flush().await?;
        if durability == Durability::Synced {
            self.file.sync_data().await?;
        }
        Ok(())
    }
}

impl Drop for Journal {
    /// No event follows, be there a terminal one or not: who watches must not wait for ever.
    fn drop(&mut self) {
        self.feed.close();
    }
}

/// The events of one operation in memory, for those who watch it.
#[derive(Debug)]
pub(crate) struct Feed {
    deploy: Uuid,
    events: Mutex<Vec<Envelope>>,
    progress: watch::Sender<Progress>,
}

/// How far a feed is.
#[derive(Debug, Default)]
struct Progress {
    len: usize,
    closed: bool,
}

impl Feed {
    fn new(deploy: Uuid) -> Feed {
        Feed {
            deploy,
            events: Mutex::default(),
            progress: watch::Sender::default(),
        }
    }

    /// Every event from the one numbered `from`, those to come included; the terminal one whatever its number is, for
    /// a power cut may have taken numbers back.
    pub(crate) fn events(self: &Arc<Self>, from: u64) -> Events {
        let next = usize::try_from(from).unwrap_or(usize::MAX);
        let state = (Arc::clone(self), self.progress.subscribe(), next, false);
        stream::unfold(state, |(feed, mut progress, next, ended)| async move {
            if ended {
                return None;
            }
            let has_come = |progress: &Progress| progress.len > next || progress.closed;
            progress.wait_for(has_come).await.ok()?;
            let envelope = feed.event_or_end(next)?;
            let ended = envelope.event.is_terminal();
            Some((envelope, (feed, progress, next.saturating_add(1), ended)))
        })
        .boxed()
    }

    fn event_or_end(&self, seq: usize) -> Option<Envelope> {
        let events = self.lock();
        let end = || events.last().filter(|last| last.event.is_terminal());
        events.get(seq).or_else(end).cloned()
    }

    fn push(&self, envelope: Envelope) {
        let len = {
            let mut events = self.lock();
            events.push(envelope);
            events.len()
        };
        self.progress.send_modify(|progress| progress.len = len);
    }

    fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Envelope>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends an event that reports rather than intends: if the disk refuses it, the operation goes on.
pub(crate) async fn record(journal: &mut Journal, event: Event, durability: Durability) {
    if let Err(error) = journal.append(event, durability).await {
        tracing::error!(error = %vela_protocol::Report::of(&error), "could not write the history");
    }
}

/// Does `work` while what happens beside it goes into the journal.
pub(crate) async fn recording<T>(
    journal: &mut Journal,
    events: &mut UnboundedReceiver<Event>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => record(journal, event, Durability::Written).await,
            result = &mut work => break result,
        }
    };
    while let Ok(event) = events.try_recv() {
        record(journal, event, Durability::Written).await;
    }
    result
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use vela_protocol::{Operation, Step, Who};

    use super::*;
    use crate::clock::SystemClock;
    use crate::history::read_last;

    fn started() -> Event {
        Event::Started {
            app: "shop".into(),
            operation: Operation::Deploy,
            release: "20260305-143022".into(),
            previous: None,
            strategy: "blue-green".into(),
            by: Who {
                uid: Some(0),
                user: "root".into(),
                client: None,
            },
            steps: vec![Step::Unpack],
            git: None,
            message: None,
        }
    }

    /// A journal with its first event.
    async fn begun(dir: &Path) -> Journal {
        let clock = Arc::new(SystemClock);
        let created = Journal::create(dir, "20260305-143022", Uuid::nil(), clock).await;
        let mut journal = created.unwrap();
        journal
            .append(started(), Durability::Written)
            .await
            .unwrap();
        journal
    }

    #[tokio::test]
    async fn watchers_get_the_past_and_the_future_and_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = begun(dir.path()).await;
        let from_start = journal.feed().events(0);
        let from_second = journal.feed().events(1);
        journal
            .append(
                Event::StepStarted { step: Step::Unpack },
                Durability::Synced,
            )
            .await
            .unwrap();
        let end = Event::Succeeded {
            release: "20260305-143022".into(),
            ms: 1,
            recovered: false,
        };
        journal.append(end, Durability::Synced).await.unwrap();
        let seqs = |events: Vec<Envelope>| events.iter().map(|e| e.seq).collect::<Vec<_>>();
        assert_eq!(seqs(from_start.collect().await), [0, 1, 2]);
        assert_eq!(seqs(from_second.collect().await), [1, 2]);
        let record = read_last(dir.path()).unwrap().unwrap();
        assert!(
            record.is_ended() && record.has_begun(Step::Unpack) && !record.has_begun(Step::Start)
        );
    }

    #[tokio::test]
    async fn watchers_of_a_journal_that_has_no_end_do_not_wait_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let journal = begun(dir.path()).await;
        let mut watched = journal.feed().events(0).collect::<Vec<_>>();
        assert!((&mut watched).now_or_never().is_none());
        drop(journal);
        assert_eq!(watched.now_or_never().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn who_has_seen_more_than_a_power_cut_left_gets_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = begun(dir.path()).await;
        let watched = journal.feed().events(7).collect::<Vec<_>>();
        let end = Event::Succeeded {
            release: "20260305-143022".into(),
            ms: 1,
            recovered: true,
        };
        journal.append(end, Durability::Synced).await.unwrap();
        drop(journal);
        let watched = watched.now_or_never().unwrap();
        let seqs: Vec<_> = watched.iter().map(|envelope| envelope.seq).collect();
        assert_eq!(seqs, [1]);
    }

    #[tokio::test]
    async fn a_torn_line_is_ignored_and_cut_off_when_the_file_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(
            dir.path(),
            "20260305-143022",
            Uuid::nil(),
            Arc::new(SystemClock),
        )
        .await
        .unwrap();
        journal
            .append(started(), Durability::Written)
            .await
            .unwrap();
        let path = dir.path().join("20260305-143022.jsonl");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"v\":1,\"se");
        std::fs::write(&path, &bytes).unwrap();

        let record = read_last(dir.path()).unwrap().unwrap();
        assert!(!record.is_ended());
        let mut journal = Journal::reopen(&record, Arc::new(SystemClock))
            .await
            .unwrap();
        journal
            .append(
                Event::StepStarted { step: Step::Unpack },
                Durability::Written,
            )
            .await
            .unwrap();
        let record = read_last(dir.path()).unwrap().unwrap();
        assert_eq!(record.events.len(), 2);
        assert_eq!(record.events[1].seq, 1);
    }
}
