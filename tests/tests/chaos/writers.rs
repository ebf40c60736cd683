//! Clients that don't give up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use vela_tests::ledger::Ledger;

/// How many write at a time.
const WRITERS: i64 = 3;

/// Between two requests of one writer: there are other things to do on two cores.
const PAUSE: Duration = Duration::from_millis(15);

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Several clients, each of which makes one entry after another, and repeats each until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Writers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Written>>,
    acknowledged: Arc<AtomicUsize>,
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Entries that the app said it has.
    pub(crate) acknowledged: BTreeSet<i64>,
    /// Entries that it may have or not: the last one of each writer.
    pub(crate) unknown: BTreeSet<i64>,
    /// Requests that did not succeed.
    pub(crate) refused: u64,
}

impl Writers {
    pub(crate) fn start(ledger: &Ledger) -> Writers {
        let (stop, stopped) = watch::channel(false);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let tasks = (0..WRITERS)
            .map(|first| {
                let count = Arc::clone(&acknowledged);
                tokio::spawn(write(ledger.clone(), first, count, stopped.clone()))
            })
            .collect();
        Writers {
            stop,
            tasks,
            acknowledged,
        }
    }

    /// How many entries were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(crate) async fn stop(self) -> Written {
        self.stop.send_replace(true);
        let mut all = Written::default();
        for task in self.tasks {
            let written = task.await.expect("a writer does not panic");
            all.acknowledged.extend(written.acknowledged);
            all.unknown.extend(written.unknown);
            all.refused += written.refused;
        }
        all
    }
}

async fn write(
    ledger: Ledger,
    first: i64,
    count: Arc<AtomicUsize>,
    stopped: watch::Receiver<bool>,
) -> Written {
    let mut written = Written::default();
    for n in (first..).step_by(usize::try_from(WRITERS).expect("it is small")) {
        loop {
            if *stopped.borrow() {
                return written;
            }
            written.unknown.insert(n);
            let entered = timeout(PATIENCE, ledger.enter(n)).await;
            sleep(PAUSE).await;
            if matches!(entered, Ok(Ok(()))) {
                break;
            }
            written.refused += 1;
        }
        written.unknown.remove(&n);
        written.acknowledged.insert(n);
        count.fetch_add(1, Ordering::Relaxed);
    }
    written
}
