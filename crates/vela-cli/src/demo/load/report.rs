use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::connection::Fault;
use super::recording::{Recording, Sample, SocketEnd};
use super::timeline::{Rules, Timeline};
use crate::demo::websocket;

/// How many failures a report tells one by one.
const TOLD: usize = 20;

/// Answers are counted by this much time.
const BUCKET: Duration = Duration::from_millis(100);

/// What came of a load.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// Requests, short and slow, that ended well or not.
    pub requests: u64,
    /// Requests that failed, WebSockets that ended as they should not, and 100 ms without an answer.
    pub failed: u64,
    /// The first twenty failures.
    pub failures: Vec<Failure>,
    /// Connections that were opened, WebSockets included.
    pub new_connections: u64,
    /// Slow requests that were answered.
    pub slow: u64,
    /// The answers of each release.
    pub answers: BTreeMap<String, u64>,
    /// The WebSockets.
    pub websockets: WebSocketReport,
    /// How long the short requests took, from when they were sent.
    pub latency: Latency,
    /// How long they took from when they were due. A worker that waits for an answer sends its next request late; that
    /// the server is slow does not make this number better.
    pub latency_from_due: Latency,
    /// The gaps that sequential deploys announced.
    pub gaps: Vec<Gap>,
    /// The longest time without an answer outside those gaps, in milliseconds.
    pub longest_silence_ms: u64,
    /// How long the generator itself was not running, in milliseconds: what falls into that time is not counted.
    pub stalled_ms: u64,
    /// How long the load lasted, in milliseconds.
    pub duration_ms: u64,
    /// How many answers came in each 100 ms.
    #[serde(skip)]
    pub completions: Vec<u32>,
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When.
    pub time: Timestamp,
    /// What kind of thing.
    pub kind: FailureKind,
    /// What exactly.
    pub detail: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// No connection could be opened.
    Connect,
    /// A connection ended before the answer, or between two requests without a word.
    Lost,
    /// No answer came in time.
    Timeout,
    /// Another status than 200.
    Status,
    /// A body that is longer or shorter than it should be.
    Length,
    /// A body that does not fit its header, or a slow answer that came too soon.
    Body,
    /// An answer of a release that should not serve at that time.
    Release,
    /// A WebSocket that did not open, did not answer, or ended before its instance was told to stop.
    WebSocket,
    /// 100 ms without an answer.
    Silence,
}

/// What came of the WebSockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WebSocketReport {
    /// Ended with 1001 when their instance was told to stop, as they should.
    pub ended: u64,
    /// Ended in any other way.
    pub failed: u64,
    /// Messages received.
    pub messages: u64,
}

/// How long answers took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them at most.
    pub p50_ms: f64,
    /// 99 of 100 at most.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// The time in which a sequential deploy has no running instance: requests wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// When it began.
    pub begin: Timestamp,
    /// How long it lasted, in milliseconds.
    pub ms: u64,
}

impl LoadReport {
    /// Whether nothing failed.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}: {}", self.time, self.kind, self.detail)
    }
}

/// Judges what was recorded by what the daemon said it did.
pub(super) fn judge(recording: &Recording, timeline: &Timeline) -> LoadReport {
    let now = recording.now();
    let end = recording.end.unwrap_or(now);
    let rules = timeline.rules(recording.begin_time, now);
    let mut failures: Vec<(Duration, FailureKind, String)> = Vec::new();
    for (at, Fault { kind, detail }) in &recording.faults {
        failures.push((*at, *kind, detail.clone()));
    }
    let releases: Vec<Option<&str>> = recording.releases.iter().map(name).collect();
    let mut answers = BTreeMap::new();
    for sample in &recording.samples {
        let release = releases[sample.release as usize];
        *answers
            .entry(release.unwrap_or("none").to_owned())
            .or_default() += 1;
        if !rules.allows(release, sample.sent, sample.done) {
            let sent = sample.done - sample.sent;
            let detail = format!("{release:?} answered a request of {sent:?} before");
            failures.push((sample.done, FailureKind::Release, detail));
        }
    }
    let mut websockets = WebSocketReport {
        messages: recording.messages,
        ..WebSocketReport::default()
    };
    for socket in &recording.sockets {
        match socket_fault(socket, &rules) {
            None => websockets.ended += 1,
            Some(detail) => failures.push((socket.ended, FailureKind::WebSocket, detail)),
        }
    }
    let completions = completions(&recording.samples, end);
    for (from, count) in (0..).map(|n| BUCKET * n).zip(&completions) {
        let excused = rules.in_gap(from, from + BUCKET) || stalled(recording, from);
        if *count == 0 && !excused {
            failures.push((
                from,
                FailureKind::Silence,
                format!("no answer for {BUCKET:?}"),
            ));
        }
    }
    failures.sort_by_key(|(at, ..)| *at);
    let of_sockets = failures
        .iter()
        .filter(|failure| failure.1 == FailureKind::WebSocket);
    websockets.failed = of_sockets.count() as u64;
    let stalls = recording.stalls.iter().map(|(from, to)| *to - *from);
    LoadReport {
        requests: recording.requests(),
        failed: failures.len() as u64,
        new_connections: recording.connections,
        slow: recording
            .samples
            .iter()
            .filter(|sample| sample.slow)
            .count() as u64,
        answers,
        websockets,
        latency: latency(&recording.samples, |sample| sample.sent),
        latency_from_due: latency(&recording.samples, |sample| sample.due),
        gaps: rules
            .gaps
            .iter()
            .map(|gap| told_gap(recording, gap))
            .collect(),
        longest_silence_ms: longest_silence(&recording.samples, &rules, end),
        stalled_ms: whole_ms(stalls.sum()),
        duration_ms: whole_ms(end),
        completions,
        failures: failures
            .into_iter()
            .take(TOLD)
            .map(|(at, kind, detail)| Failure {
                time: time(recording, at),
                kind,
                detail,
            })
            .collect(),
    }
}

/// What was wrong with the way a WebSocket ended, if anything.
fn socket_fault(socket: &SocketEnd, rules: &Rules) -> Option<String> {
    let release = name(&socket.release).unwrap_or("none");
    match &socket.how {
        Err(what) => Some(format!("{what} (from {release})")),
        Ok(Some(websocket::GOING_AWAY)) => {
            let told = rules.stopped(release, socket.opened, socket.ended);
            (!told).then(|| format!("closed by {release}, which had not been told to stop"))
        }
        Ok(code) => Some(format!("closed by {release} with code {code:?}")),
    }
}

fn completions(samples: &[Sample], end: Duration) -> Vec<u32> {
    let bucket = |at: Duration| (at.as_millis() / BUCKET.as_millis()) as usize;
    // The last bucket is not whole, and left out.
    let mut counts = vec![0; bucket(end)];
    for sample in samples {
        if let Some(count) = counts.get_mut(bucket(sample.done)) {
            *count += 1;
        }
    }
    counts
}

/// Whether the generator was not running for at least half of the bucket at `from`.
fn stalled(recording: &Recording, from: Duration) -> bool {
    let to = from + BUCKET;
    let stalled = |stall: &(Duration, Duration)| stall.1.min(to).saturating_sub(stall.0.max(from));
    let stalled: Duration = recording.stalls.iter().map(stalled).sum();
    stalled * 2 >= BUCKET
}

fn latency(samples: &[Sample], begin: fn(&Sample) -> Duration) -> Latency {
    let short = samples.iter().filter(|sample| !sample.slow);
    let mut took: Vec<Duration> = short.map(|sample| sample.done - begin(sample)).collect();
    took.sort_unstable();
    let at = |percent: usize| {
        let index = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        let took = took.get(index).copied().unwrap_or_default();
        took.as_micros() as f64 / 1000.0
    };
    Latency {
        p50_ms: at(50),
        p99_ms: at(99),
        max_ms: at(100),
    }
}

fn longest_silence(samples: &[Sample], rules: &Rules, end: Duration) -> u64 {
    let mut times: Vec<Duration> = samples.iter().map(|sample| sample.done).collect();
    times.retain(|done| *done < end);
    times.extend([Duration::ZERO, end]);
    times.sort_unstable();
    let pauses = times
        .windows(2)
        .filter(|pair| !rules.in_gap(pair[0], pair[1]));
    whole_ms(
        pauses
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default(),
    )
}

fn told_gap(recording: &Recording, gap: &(Duration, Duration)) -> Gap {
    Gap {
        begin: time(recording, gap.0),
        ms: whole_ms(gap.1 - gap.0),
    }
}

fn time(recording: &Recording, at: Duration) -> Timestamp {
    let at = SignedDuration::try_from(at).unwrap_or(SignedDuration::MAX);
    recording
        .begin_time
        .saturating_add(at)
        .unwrap_or(Timestamp::MAX)
}

fn name(release: &Option<HeaderValue>) -> Option<&str> {
    release.as_ref().and_then(|name| name.to_str().ok())
}

fn whole_ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
