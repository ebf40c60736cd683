use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use jiff::Timestamp;

use super::connection::Fault;

/// What happened, as it happened. Nothing is judged here: which release was allowed when, and which WebSocket was
/// told to end, is known for certain only when the daemon's events have all arrived.
#[derive(Debug)]
pub(super) struct Recording {
    begin: Instant,
    /// The same moment by the clock of the daemon's events.
    pub(super) begin_time: Timestamp,
    /// When no more was asked.
    pub(super) end: Option<Duration>,
    pub(super) samples: Vec<Sample>,
    /// What the samples' indices stand for.
    pub(super) releases: Vec<Option<HeaderValue>>,
    pub(super) faults: Vec<(Duration, Fault)>,
    pub(super) faulty_requests: u64,
    pub(super) connections: u64,
    pub(super) sockets: Vec<SocketEnd>,
    pub(super) messages: u64,
    /// When the generator itself was not running.
    pub(super) stalls: Vec<(Duration, Duration)>,
}

/// One answer. Times count from the recording's begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) due: Duration,
    pub(super) sent: Duration,
    pub(super) done: Duration,
    pub(super) release: u32,
    pub(super) slow: bool,
}

/// How a WebSocket ended that the generator did not end itself.
#[derive(Debug)]
pub(super) struct SocketEnd {
    pub(super) release: Option<HeaderValue>,
    pub(super) opened: Duration,
    pub(super) ended: Duration,
    /// The close code, or what happened in place of a close.
    pub(super) how: Result<Option<u16>, String>,
}

impl Recording {
    pub(super) fn new() -> Recording {
        Recording {
            begin: Instant::now(),
            begin_time: Timestamp::now(),
            end: None,
            samples: Vec::new(),
            releases: Vec::new(),
            faults: Vec::new(),
            faulty_requests: 0,
            connections: 0,
            sockets: Vec::new(),
            messages: 0,
            stalls: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(super) fn begin(&self) -> Instant {
        self.begin
    }

    pub(super) fn stop(&mut self) {
        self.end = Some(self.now());
    }

    pub(super) fn requests(&self) -> u64 {
        self.samples.len() as u64 + self.faulty_requests
    }

    /// A request that got its answer.
    pub(super) fn answered(
        &mut self,
        due: Duration,
        sent: Duration,
        release: Option<HeaderValue>,
        slow: bool,
    ) {
        let known = self.releases.iter().rposition(|known| *known == release);
        let index = known.unwrap_or_else(|| {
            self.releases.push(release);
            self.releases.len() - 1
        });
        self.samples.push(Sample {
            due,
            sent,
            done: self.now(),
            release: index as u32,
            slow,
        });
    }

    /// A request that did not.
    pub(super) fn failed(&mut self, fault: Fault) {
        self.faulty_requests += 1;
        self.faults.push((self.now(), fault));
    }

    /// A WebSocket that could not be opened, or broke its word.
    pub(super) fn socket_failed(&mut self, fault: Fault) {
        self.faults.push((self.now(), fault));
    }
}

/// A panic elsewhere leaves at worst one sample out, so the lock's poison is passed over.
pub(super) fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}
