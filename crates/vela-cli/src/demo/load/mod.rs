//! An honest load generator: it asks on a schedule that no answer, error or deploy changes, and never asks again
//! for what failed.
//!
//! - Short requests are sent by a fixed number of workers, each with its own share of a fixed rate. What was held up
//!   is sent as soon as its worker is free, and its latency counts from when it was due.
//! - Of each worker's requests every third opens a new connection; the others reuse one that is kept. A kept
//!   connection that ends without `Connection: close` before it is a failure.
//! - Of every answer the status, the length, the body and the release are checked. Which releases may answer at which
//!   moment is derived from the events of the deploy ([`LoadHandle::observe`]).
//! - Slow requests and WebSockets are always in flight. A WebSocket may end only by a close with code 1001 after the
//!   daemon began to stop its instance.
//! - Answers are counted in buckets of 100 ms. An empty one is a failure, unless a sequential deploy had announced
//!   its gap, or the generator itself was not running.
//!
//! It runs on a thread of its own, so that what else its process does cannot slow it.

mod connection;
mod recording;
mod report;
mod socket;
mod timeline;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use vela_protocol::Envelope;

use self::recording::Recording;
use self::timeline::Timeline;

pub use self::report::{Failure, FailureKind, Gap, Latency, LoadReport, WebSocketReport};
pub use self::timeline::Mark;

/// What is asked, and how often.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// How many workers send short requests; no more than this many are ever in flight.
    pub workers: usize,
    /// Short requests a second, over all workers.
    pub rate: u32,
    /// Which of a worker's requests open a new connection: every third, say. 1 is all, 0 is none.
    pub fresh_every: usize,
    /// The path of the short requests.
    pub path: String,
    /// The length of every body, in bytes; unchecked without one.
    pub length: Option<usize>,
    /// How many slow requests are in flight at any time.
    pub slow: usize,
    /// How long the app takes to answer a slow request.
    pub slow_for: Duration,
    /// How many WebSockets are open at any time.
    pub websockets: usize,
    /// When a request without an answer has failed.
    pub timeout: Duration,
}

impl LoadOptions {
    /// Whether a worker's request opens a new connection. Workers take turns, so that new connections are spread
    /// evenly over time.
    fn is_fresh(&self, worker: usize, turn: usize) -> bool {
        self.fresh_every > 0 && (worker + turn).is_multiple_of(self.fresh_every)
    }
}

impl Default for LoadOptions {
    /// The load of `vela demo`, for its own app.
    fn default() -> LoadOptions {
        LoadOptions {
            workers: 24,
            rate: 3000,
            fresh_every: 3,
            path: "/".into(),
            length: Some(super::app::BODY_LENGTH),
            slow: 4,
            slow_for: Duration::from_secs(2),
            websockets: 2,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Why no load could be put on anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The generator's thread or runtime could not be made.
    #[error("could not start the load generator")]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host is no value of a `Host` header.
    #[error("{host:?} is no host name")]
    Host {
        /// What it was.
        host: String,
    },
    /// The generator's thread panicked.
    #[error("the load generator died")]
    Died,
}

/// The load generator.
#[derive(Debug)]
pub struct Load;

impl Load {
    /// Starts asking `host` at `addr`, at once and until [`LoadHandle::stop`].
    pub fn start(
        addr: SocketAddr,
        host: &str,
        options: LoadOptions,
    ) -> Result<LoadHandle, LoadError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| LoadError::Start { source })?;
        let host = host.parse().map_err(|_| LoadError::Host {
            host: host.to_owned(),
        })?;
        let recording = Arc::new(Mutex::new(Recording::new()));
        let (stop, stopped) = watch::channel(());
        let (done, finished) = oneshot::channel();
        let target = worker::Target {
            addr,
            host,
            options: Arc::new(options),
            recording: recording.clone(),
            stopped,
        };
        std::thread::Builder::new()
            .name("vela-load".into())
            .spawn(move || {
                runtime.block_on(worker::run_all(target));
                // Nobody waits for it when the handle was dropped.
                done.send(()).unwrap_or_default();
            })
            .map_err(|source| LoadError::Start { source })?;
        Ok(LoadHandle {
            recording,
            timeline: Timeline::default(),
            stop,
            finished,
        })
    }
}

/// A running load. Dropping it stops the load and forgets what came of it.
#[derive(Debug)]
pub struct LoadHandle {
    recording: Arc<Mutex<Recording>>,
    timeline: Timeline,
    stop: watch::Sender<()>,
    finished: oneshot::Receiver<()>,
}

impl LoadHandle {
    /// Takes note of one event of a deploy, rollback or restart: which releases may answer from then on, which
    /// WebSockets may end, when a sequential gap begins and ends.
    pub fn observe(&mut self, envelope: &Envelope) {
        self.timeline.observe(envelope);
    }

    /// Takes note by hand of what holds from now on.
    pub fn mark(&mut self, mark: Mark) {
        self.timeline.mark(Timestamp::now(), mark);
    }

    /// How many requests have ended so far, well or not.
    pub fn requests(&self) -> u64 {
        recording::lock(&self.recording).requests()
    }

    /// Stops asking, waits for what is in flight, and judges it all.
    pub async fn stop(self) -> Result<LoadReport, LoadError> {
        recording::lock(&self.recording).stop();
        drop(self.stop);
        self.finished.await.map_err(|_| LoadError::Died)?;
        let recording = recording::lock(&self.recording);
        Ok(report::judge(&recording, &self.timeline))
    }
}

#[cfg(test)]
mod tests;
