use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::failure::Failure;

/// The bounds of the latency histogram, in microseconds: the usual steps, from what a kept
/// connection on the same machine takes to where clients give up.
pub(crate) const BOUNDS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The methods that are told apart. What else a client makes up is one more, so that no client
/// makes new series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
    #[default]
    Other,
}

impl Method {
    pub(crate) const ALL: [(Method, &str); 10] = [
        (Method::Get, "GET"),
        (Method::Head, "HEAD"),
        (Method::Post, "POST"),
        (Method::Put, "PUT"),
        (Method::Patch, "PATCH"),
        (Method::Delete, "DELETE"),
        (Method::Options, "OPTIONS"),
        (Method::Trace, "TRACE"),
        (Method::Connect, "CONNECT"),
        (Method::Other, "other"),
    ];

    /// Of a request that begins like this.
    pub(crate) fn of(head: &[u8]) -> Method {
        let longest = head.get(.."OPTIONS ".len()).unwrap_or(head);
        match longest.split(|&byte| byte == b' ').next() {
            Some(b"GET") => Method::Get,
            Some(b"HEAD") => Method::Head,
            Some(b"POST") => Method::Post,
            Some(b"PUT") => Method::Put,
            Some(b"PATCH") => Method::Patch,
            Some(b"DELETE") => Method::Delete,
            Some(b"OPTIONS") => Method::Options,
            Some(b"TRACE") => Method::Trace,
            Some(b"CONNECT") => Method::Connect,
            _ => Method::Other,
        }
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Class {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// Not at all: the client left first.
    ClientLeft,
}

impl Class {
    pub(crate) const ALL: [(Class, &str); 6] = [
        (Class::Informational, "1xx"),
        (Class::Success, "2xx"),
        (Class::Redirection, "3xx"),
        (Class::ClientError, "4xx"),
        (Class::ServerError, "5xx"),
        (Class::ClientLeft, "499"),
    ];

    pub(crate) fn of(status: u16) -> Class {
        match status {
            CLIENT_LEFT => Class::ClientLeft,
            ..200 => Class::Informational,
            200..300 => Class::Success,
            300..400 => Class::Redirection,
            400..500 => Class::ClientError,
            _ => Class::ServerError,
        }
    }
}

/// The status of a request whose client left before its answer: it is in no standard, but nginx
/// made it what logs and dashboards expect.
pub(crate) const CLIENT_LEFT: u16 = 499;

/// What an upstream did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Fault {
    Unreachable,
    ConnectTimedOut,
    Lost,
    Malformed,
    ResponseTimedOut,
    CutShort,
    FellSilent,
}

impl Fault {
    pub(crate) const ALL: [(Fault, &str); 7] = [
        (Fault::Unreachable, "unreachable"),
        (Fault::ConnectTimedOut, "connect_timeout"),
        (Fault::Lost, "lost"),
        (Fault::Malformed, "malformed"),
        (Fault::ResponseTimedOut, "response_timeout"),
        (Fault::CutShort, "cut_short"),
        (Fault::FellSilent, "fell_silent"),
    ];

    /// `None` for what is not an upstream's fault.
    pub(crate) fn of(failure: Failure) -> Option<Fault> {
        match failure {
            Failure::Unreachable => Some(Fault::Unreachable),
            Failure::ConnectTimedOut => Some(Fault::ConnectTimedOut),
            Failure::Lost => Some(Fault::Lost),
            Failure::Malformed => Some(Fault::Malformed),
            Failure::ResponseTimedOut => Some(Fault::ResponseTimedOut),
            _ => None,
        }
    }
}

/// A response that ends when one side wants it to, and not when it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Stream {
    Tunnel,
    Events,
}

impl Stream {
    pub(crate) const ALL: [(Stream, &str); 2] =
        [(Stream::Tunnel, "tunnel"), (Stream::Events, "events")];
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Requests that have ended. How many have begun and not ended is how many are in flight.
    Ended(Method, Class),
    Begun,
    /// Requests of so long, by the index of their bucket.
    Duration(usize),
    /// Of those the durations, in microseconds.
    Microseconds,
    StreamBegun(Stream),
    StreamEnded(Stream),
    Fault(Fault),
    Retried,
    /// Requests that have waited on a parked route.
    Parked,
    /// How often they have done so once more.
    ParkedAgain,
    /// How often they wait no longer.
    Unparked,
    /// Of requests' bodies.
    BytesIn,
    /// Of responses' bodies.
    BytesOut,
}

impl Count {
    const DURATIONS: usize = Method::ALL.len() * Class::ALL.len();
    const STREAMS: usize = Count::DURATIONS + BOUNDS.len() + 1;
    const FAULTS: usize = Count::STREAMS + 2 * Stream::ALL.len();
    const OTHERS: usize = Count::FAULTS + Fault::ALL.len();
    const KINDS: usize = Count::OTHERS + 8;

    /// What ends stands before what begins, and is read before it.
    const fn place(self) -> usize {
        match self {
            Count::Ended(method, class) => method as usize * Class::ALL.len() + class as usize,
            Count::Duration(bucket) => Count::DURATIONS + bucket,
            Count::StreamEnded(stream) => Count::STREAMS + stream as usize,
            Count::StreamBegun(stream) => Count::STREAMS + Stream::ALL.len() + stream as usize,
            Count::Fault(fault) => Count::FAULTS + fault as usize,
            Count::Begun => Count::OTHERS,
            Count::Microseconds => Count::OTHERS + 1,
            Count::Retried => Count::OTHERS + 2,
            Count::Unparked => Count::OTHERS + 3,
            Count::Parked => Count::OTHERS + 4,
            Count::ParkedAgain => Count::OTHERS + 5,
            Count::BytesIn => Count::OTHERS + 6,
            Count::BytesOut => Count::OTHERS + 7,
        }
    }
}

/// What one worker has counted of the requests of one route. No other worker writes to it, nor to
/// its neighbourhood: processors fetch lines of 64 bytes in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Tally([AtomicU64; Count::KINDS]);

impl Tally {
    #[inline]
    pub(crate) fn add(&self, what: Count, more: u64) {
        self.0[what.place()].fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS
            .iter()
            .position(|&bound| micros <= bound)
            .unwrap_or(BOUNDS.len());
        self.add(Count::Duration(bucket), 1);
        self.add(Count::Microseconds, micros);
    }

    pub(crate) fn add_to(&self, totals: &mut Totals) {
        for (counter, total) in self.0.iter().zip(&mut totals.0) {
            *total += counter.load(Ordering::Relaxed);
        }
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally([const { AtomicU64::new(0) }; Count::KINDS])
    }
}

/// A route's tallies, one a worker. They are the route's for as long as it is in the table,
/// whatever becomes of its upstreams.
#[derive(Debug)]
pub(crate) struct Tallies(Box<[Arc<Tally>]>);

impl Tallies {
    pub(crate) fn new(workers: usize) -> Tallies {
        Tallies((0..workers.max(1)).map(|_| Arc::default()).collect())
    }

    /// The worker's own. Each is shared alone, so that to hold it costs the others nothing.
    pub(crate) fn of(&self, worker: usize) -> &Arc<Tally> {
        self.0.get(worker).unwrap_or(&self.0[0])
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for tally in &self.0 {
            tally.add_to(&mut totals);
        }
        totals
    }
}

/// What all workers have counted.
#[derive(Clone, Debug)]
pub(crate) struct Totals([u64; Count::KINDS]);

impl Totals {
    pub(crate) fn of(&self, what: Count) -> u64 {
        self.0[what.place()]
    }

    /// How many have begun and not ended.
    pub(crate) fn open(&self, begun: Count, ended: u64) -> u64 {
        self.of(begun).saturating_sub(ended)
    }

    pub(crate) fn ended(&self) -> u64 {
        self.0[..Count::DURATIONS].iter().sum()
    }
}

impl Default for Totals {
    fn default() -> Totals {
        Totals([0; Count::KINDS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_a_place_of_its_own() {
        let mut all = vec![
            Count::Begun,
            Count::Microseconds,
            Count::Retried,
            Count::Parked,
            Count::ParkedAgain,
            Count::Unparked,
            Count::BytesIn,
            Count::BytesOut,
        ];
        for (method, _) in Method::ALL {
            all.extend(Class::ALL.map(|(class, _)| Count::Ended(method, class)));
        }
        all.extend((0..=BOUNDS.len()).map(Count::Duration));
        for (stream, _) in Stream::ALL {
            all.extend([Count::StreamBegun(stream), Count::StreamEnded(stream)]);
        }
        all.extend(Fault::ALL.map(|(fault, _)| Count::Fault(fault)));
        let mut places: Vec<_> = all.into_iter().map(Count::place).collect();
        places.sort_unstable();
        assert_eq!(places, (0..Count::KINDS).collect::<Vec<_>>());
    }

    #[test]
    fn methods_and_statuses_are_few() {
        for (method, name) in Method::ALL {
            let head = format!("{name} / HTTP/1.1\r\n");
            assert_eq!(Method::of(head.as_bytes()), method);
        }
        for head in ["", "get / ", "GETS / ", "OPTIONSX / ", "GE", " GET /"] {
            assert_eq!(Method::of(head.as_bytes()), Method::Other, "{head}");
        }
        for (status, class) in [
            (101, "1xx"),
            (200, "2xx"),
            (304, "3xx"),
            (498, "4xx"),
            (499, "499"),
            (500, "5xx"),
            (999, "5xx"),
        ] {
            let class_of = Class::of(status);
            assert!(Class::ALL.contains(&(class_of, class)), "{status}");
        }
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let tally = Tally::default();
        for micros in [0, 1_000, 1_001, 60_000_000, 60_000_001] {
            tally.took(Duration::from_micros(micros));
        }
        let mut totals = Totals::default();
        tally.add_to(&mut totals);
        let buckets: Vec<_> = (0..=BOUNDS.len())
            .map(|bucket| totals.of(Count::Duration(bucket)))
            .collect();
        assert_eq!(buckets[..3], [2, 1, 0]);
        assert_eq!(buckets[13..], [0, 1, 1]);
        assert_eq!(totals.of(Count::Microseconds), 120_002_002);
    }
}
