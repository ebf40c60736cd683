use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::HeaderValue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::LoadOptions;
use super::connection::{Answer, Connection, Fault};
use super::recording::{self, Recording};
use super::report::FailureKind;
use super::socket;

/// How often the generator looks whether it is running.
const HEARTBEAT: Duration = Duration::from_millis(10);

/// How late a heartbeat must be to count as a stall.
const STALL: Duration = Duration::from_millis(50);

/// What is asked, and where it is written down.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    pub(super) host: HeaderValue,
    pub(super) options: Arc<LoadOptions>,
    pub(super) recording: Arc<Mutex<Recording>>,
    /// Closed when the load ends.
    pub(super) stopped: watch::Receiver<()>,
}

impl Target {
    pub(super) fn record(&self) -> MutexGuard<'_, Recording> {
        recording::lock(&self.recording)
    }

    /// Opens a connection and counts it.
    pub(super) async fn connect(&self) -> Result<Connection, Fault> {
        self.record().connections += 1;
        Connection::open(self.addr, &self.host).await
    }

    /// Returns when the load ends. Cancel safe.
    pub(super) async fn ended(&self) {
        let mut stopped = self.stopped.clone();
        while stopped.changed().await.is_ok() {}
    }

    /// Waits until `due`, and returns when that was: a timer's lateness is not the server's. Nothing when the load
    /// ended first.
    async fn wait_until(&self, due: Instant) -> Option<Instant> {
        let late = due < Instant::now();
        tokio::select! {
            biased;
            () = self.ended() => None,
            () = sleep_until(due.into()) => Some(if late { due } else { Instant::now() }),
        }
    }
}

/// Runs every worker until the load ends and what is in flight has ended too.
pub(super) async fn run_all(target: Target) {
    let options = target.options.clone();
    let heartbeat = tokio::spawn(watch_stalls(target.clone()));
    let mut workers = JoinSet::new();
    for index in 0..options.workers {
        workers.spawn(short_requests(target.clone(), index));
    }
    for index in 0..options.slow {
        workers.spawn(slow_requests(target.clone(), index));
    }
    for _ in 0..options.websockets {
        workers.spawn(socket::keep_open(target.clone()));
    }
    // A worker that panics stops asking, and the missing answers show.
    while workers.join_next().await.is_some() {}
    heartbeat.abort();
}

async fn short_requests(target: Target, index: usize) {
    let options = target.options.clone();
    let mut worker = Worker::default();
    let begin = target.record().begin();
    let slot = Duration::from_secs(1) / options.rate.max(1);
    for turn in 0.. {
        let place = index + turn * options.workers;
        let Some(due) = target.wait_until(begin + slot * place as u32).await else {
            return;
        };
        worker.fresh = options.is_fresh(index, turn);
        worker.ask(&target, &options.path, due, None).await;
    }
}

async fn slow_requests(target: Target, index: usize) {
    let options = target.options.clone();
    let mut worker = Worker::default();
    let path = format!("/slow?ms={}", options.slow_for.as_millis());
    // Spread out, so that at any moment some have just begun and some are about to end.
    let spread = options.slow_for * index as u32 / options.slow as u32;
    let mut due = target.record().begin() + spread;
    for turn in 0.. {
        if target.wait_until(due).await.is_none() {
            return;
        }
        worker.fresh = options.is_fresh(index, turn);
        worker
            .ask(&target, &path, due, Some(options.slow_for))
            .await;
        due = Instant::now();
    }
}

/// A client that asks one thing after another.
#[derive(Debug, Default)]
struct Worker {
    kept: Option<Connection>,
    /// Whether the next request opens a connection for itself.
    fresh: bool,
}

impl Worker {
    async fn ask(&mut self, target: &Target, path: &str, due: Instant, slow: Option<Duration>) {
        let sent = Instant::now();
        let limit = target.options.timeout + slow.unwrap_or_default();
        let asked = timeout(limit, self.exchange(target, path)).await;
        let checked = match asked {
            Ok(asked) => asked.and_then(|answer| check(answer, target, slow, sent.elapsed())),
            Err(_) => {
                // The answer may still come, on a connection that is of no use then.
                self.kept = None;
                let detail = format!("no answer within {limit:?} to {path}");
                Err(Fault::new(FailureKind::Timeout, detail))
            }
        };
        let mut record = target.record();
        let begin = record.begin();
        let (due, sent) = (due.saturating_duration_since(begin), sent - begin);
        match checked {
            Ok(release) => record.answered(due, sent, release, slow.is_some()),
            Err(fault) => record.failed(fault),
        }
    }

    async fn exchange(&mut self, target: &Target, path: &str) -> Result<Answer, Fault> {
        if self.fresh {
            return target.connect().await?.get(path, true).await;
        }
        // Taken out, and put back only after an answer that allows it.
        let mut connection = match self.kept.take() {
            Some(kept) => kept,
            None => target.connect().await?,
        };
        let answer = connection.get(path, false).await?;
        self.kept = (!answer.close).then_some(connection);
        Ok(answer)
    }
}

/// Checks all of an answer but its release, which is judged at the end.
fn check(
    answer: Answer,
    target: &Target,
    slow: Option<Duration>,
    took: Duration,
) -> Result<Option<HeaderValue>, Fault> {
    let fault = |kind, detail: String| {
        let release = answer.release.as_ref().and_then(|name| name.to_str().ok());
        let release = release.unwrap_or("no release");
        Err(Fault::new(kind, format!("{detail} (from {release})")))
    };
    if answer.status != StatusCode::OK {
        return fault(FailureKind::Status, format!("status {}", answer.status));
    }
    if target
        .options
        .length
        .is_some_and(|want| want != answer.length)
    {
        let length = answer.length;
        return fault(FailureKind::Length, format!("a body of {length} bytes"));
    }
    if !answer.consistent {
        return fault(FailureKind::Body, "a body of another release".into());
    }
    if slow.is_some_and(|least| took < least) {
        return fault(FailureKind::Body, format!("a slow answer after {took:?}"));
    }
    Ok(answer.release)
}

/// Notes when this thread did not run, so that the server is not blamed for it.
async fn watch_stalls(target: Target) {
    loop {
        let due = Instant::now() + HEARTBEAT;
        sleep_until(due.into()).await;
        let late = due.elapsed();
        if late > STALL {
            let mut record = target.record();
            let now = record.now();
            record.stalls.push((now.saturating_sub(late), now));
        }
    }
}
