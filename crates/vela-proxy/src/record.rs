use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::forwarded::Provenance;
use crate::log_entry::{LogEntry, Outcome};
use crate::peer::Peer;
use crate::route_table::Route;
use crate::stats::count;
use crate::tally::{CLIENT_LEFT, Class, Count, Fault, Method, Stream, Tally};
use crate::worker::Worker;

/// What is counted of a request, and logged if there is an access log, from its head to the end
/// of its answer.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// `None` between requests.
    begun: Option<Instant>,
    /// Of its app, once that is known.
    tally: Option<Arc<Tally>>,
    method: Method,
    status: u16,
    outcome: Outcome,
    stream: Option<Stream>,
    /// Its time says something about the app, or about the proxy.
    is_timed: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    entry: Option<Box<LogEntry>>,
}

impl Record {
    /// A request has come, with this head, of that version if the head does not say so.
    pub(crate) fn begin(&mut self, worker: &Worker, head: &[u8], version: Option<&str>) {
        *self = Record {
            begun: Some(Instant::now()),
            method: Method::of(head),
            is_timed: true,
            entry: worker
                .config
                .access_log
                .as_ref()
                .map(|_| Box::new(LogEntry::of(head, version))),
            ..Record::default()
        };
    }

    /// What has come of a head is all that will be read of it.
    pub(crate) fn begin_unread(&mut self, worker: &Worker, head: &[u8], version: Option<&str>) {
        self.begin(worker, head, version);
        self.is_timed = false;
    }

    /// Whether the answer is to have no body.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    pub(crate) fn is_open(&self) -> bool {
        self.begun.is_some()
    }

    /// The request is the route's.
    pub(crate) fn routed(&mut self, route: &Route, worker: usize) {
        let tally = route.tallies.of(worker);
        tally.add(Count::Begun, 1);
        self.tally = Some(Arc::clone(tally));
        if let Some(entry) = &mut self.entry {
            entry.app = Some(route.id.as_str().to_owned());
        }
    }

    /// What its head says of where it comes from, and for whom.
    pub(crate) fn understood(&mut self, provenance: &Provenance, host: &str) {
        if let Some(entry) = &mut self.entry {
            entry.understood(provenance, host);
        }
    }

    /// What a head that is refused says of where it comes from.
    pub(crate) fn came_from(&mut self, provenance: &Provenance) {
        if let Some(entry) = &mut self.entry {
            entry.came_from(provenance);
        }
    }

    /// The answer begins. A later one, after an upgrade that failed say, counts instead.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// The client is gone, and the answer, if it has begun, is incomplete.
    pub(crate) fn client_left(&mut self) {
        self.outcome = Outcome::ClientLeft;
        if self.status == 0 {
            self.status = CLIENT_LEFT;
        }
    }

    /// The client is gone, and what was answered is for nobody.
    pub(crate) fn client_left_unanswered(&mut self) {
        self.outcome = Outcome::ClientLeft;
        self.status = CLIENT_LEFT;
    }

    /// The upstream has ended its response too early.
    pub(crate) fn cut_short(&mut self, worker: &Worker) {
        self.outcome = Outcome::UpstreamLeft;
        count(&worker.counters.upstream_errors);
        self.add(worker, Count::Fault(Fault::CutShort), 1);
    }

    /// The upstream has not gone on with its response in time.
    pub(crate) fn fell_silent(&mut self, worker: &Worker) {
        self.outcome = Outcome::UpstreamSilent;
        count(&worker.counters.upstream_errors);
        self.add(worker, Count::Fault(Fault::FellSilent), 1);
    }

    /// The proxy ends the response: its stream has gone on for long enough.
    pub(crate) fn ended_by_proxy(&mut self) {
        self.outcome = Outcome::EndedByProxy;
    }

    pub(crate) fn upstream_failed(&self, worker: &Worker, failure: Failure) {
        if failure == Failure::Exhausted {
            count(&worker.counters.exhausted);
        }
        if let Some(fault) = Fault::of(failure) {
            count(&worker.counters.upstream_errors);
            self.add(worker, Count::Fault(fault), 1);
        }
    }

    /// The request is sent once more.
    pub(crate) fn retried(&mut self, worker: &Worker) {
        count(&worker.counters.retries);
        self.add(worker, Count::Retried, 1);
        if let Some(entry) = &mut self.entry {
            entry.retries += 1;
        }
    }

    /// The response goes on until one side leaves.
    pub(crate) fn streams(&mut self, worker: &Worker, stream: Stream) {
        self.stream = Some(stream);
        self.add(worker, Count::StreamBegun(stream), 1);
    }

    /// The upstream is about to be connected to, or to be asked.
    pub(crate) fn turns_to_upstream(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.turned = Some(Instant::now());
        }
    }

    /// The upstream has accepted a connection.
    pub(crate) fn connected(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.connect_ms = entry.turned.map(|turned| milliseconds(turned.elapsed()));
        }
    }

    /// The upstream's response has begun.
    pub(crate) fn responded(&mut self, upstream: &str) {
        if let Some(entry) = &mut self.entry {
            entry.response_ms = entry.turned.map(|turned| milliseconds(turned.elapsed()));
            entry.upstream = Some(upstream.to_owned());
        }
    }

    /// The request has ended.
    pub(crate) fn end(&mut self, worker: &Worker, peer: &Peer) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        let took = begun.elapsed();
        if self.status == 0 {
            // Nothing was answered, because there was no time left for it.
            self.status = 503;
            self.outcome = Outcome::EndedByProxy;
        }
        let tally = self.tally(worker);
        let ended = Count::Ended(self.method, Class::of(self.status));
        match self.stream {
            Some(stream) => tally.add(Count::StreamEnded(stream), 1),
            None if self.is_timed => tally.took(took),
            None => {}
        }
        for (what, bytes) in [
            (Count::BytesIn, self.bytes_in),
            (Count::BytesOut, self.bytes_out),
        ] {
            if bytes > 0 {
                tally.add(what, bytes);
            }
        }
        tally.add(ended, 1);
        self.tally = None;
        if let (Some(mut entry), Some(log)) = (self.entry.take(), &worker.config.access_log) {
            entry.status = self.status;
            entry.outcome = self.outcome;
            entry.bytes_in = self.bytes_in;
            entry.bytes_out = self.bytes_out;
            log.write(entry.line(took, peer.ip, peer.scheme));
        }
    }

    /// The request is cut off before its end.
    pub(crate) fn break_off(&mut self, worker: &Worker, peer: &Peer) {
        if self.is_open() {
            self.outcome = Outcome::EndedByProxy;
            self.end(worker, peer);
        }
    }

    fn add(&self, worker: &Worker, what: Count, more: u64) {
        self.tally(worker).add(what, more);
    }

    fn tally<'a>(&'a self, worker: &'a Worker) -> &'a Tally {
        self.tally.as_deref().unwrap_or(&worker.counters.unrouted)
    }
}

/// To the microsecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
