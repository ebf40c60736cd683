use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::stats::count;
use crate::worker::Worker;

/// The connections that wait for a request and for nothing else. When there is no room for another
/// one, those that have waited for longest are told to end.
///
/// A connection says by a number of its own when it waits, so that a request costs two writes that
/// nobody else waits for; the order is made when it is needed.
#[derive(Debug)]
pub(crate) struct Room {
    opened: Instant,
    /// Of each worker, so that none waits for another.
    places: Box<[Mutex<Places>]>,
    /// When it was made last, in milliseconds since it was opened.
    made: AtomicU64,
    /// How many connections may be open while file descriptors are short, and until when they are.
    most_when_short: AtomicUsize,
    short_until: AtomicU64,
}

/// One worker's connections.
#[derive(Debug, Default)]
struct Places {
    taken: Vec<Option<Arc<Rest>>>,
    free: Vec<usize>,
}

/// A connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    worker: Arc<Worker>,
    number: usize,
    rest: Arc<Rest>,
}

#[derive(Debug)]
struct Rest {
    /// When it began to wait, in milliseconds since the room was opened; or else one of those below.
    since: AtomicU64,
    waker: Waker,
}

/// It has something to do.
const BUSY: u64 = 0;
/// It has been told to end.
const TOLD: u64 = u64::MAX;
/// For how long a connection has waited at least when it is told: a client that asks often, and one
/// whose first request is on its way, are not idle.
const LEAST: Duration = Duration::from_secs(1);
/// How often room is made at most: who was told needs a moment to end.
const PERIOD: Duration = Duration::from_millis(50);
/// Which part of all connections is told at a time.
const PART: usize = 32;

/// How long descriptors are taken for short after they have run out.
const SHORT: Duration = Duration::from_secs(10);
/// How often it is looked whether there is room again.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until there may be one more connection, and makes room for it. Not for longer than the
/// worker goes on: what has been accepted is served.
pub(crate) async fn until_there_is_room(worker: &Worker) {
    let most = worker.config.limits.connections;
    let is_full = || worker.crew.connections() >= worker.room.most(most);
    if !is_full() {
        return;
    }
    count(&worker.counters.over_limit);
    while is_full() && !worker.stop.is_told() {
        worker.room.make();
        tokio::select! {
            () = worker.stop.wait() => {}
            () = sleep(LOOK) => {}
        }
    }
}

impl Room {
    pub(crate) fn new(workers: usize) -> Room {
        Room {
            opened: Instant::now(),
            places: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            made: AtomicU64::new(0),
            most_when_short: AtomicUsize::new(usize::MAX),
            short_until: AtomicU64::new(0),
        }
    }

    /// File descriptors have run out while so many connections were open. For a while half of them
    /// have to do: what those that come would take is needed by those that are served, for
    /// connections to upstreams.
    pub(crate) fn fall_short(&self, connections: usize) {
        let until = self.time(Instant::now() + SHORT);
        let most = (connections / 2).max(1);
        self.most_when_short.store(most, Ordering::Relaxed);
        self.short_until.store(until, Ordering::Relaxed);
        self.make();
    }

    /// How many connections there may be now.
    fn most(&self, limit: usize) -> usize {
        let until = self.short_until.load(Ordering::Relaxed);
        match until > 0 && self.time(Instant::now()) < until {
            true => self.most_when_short.load(Ordering::Relaxed).min(limit),
            false => limit,
        }
    }

    /// Tells some to end, if room was not made just now. Those that get a request before they know
    /// of it stay.
    pub(crate) fn make(&self) {
        let now = self.time(Instant::now());
        let made = self.made.load(Ordering::Relaxed);
        let is_due = made == 0 || now.saturating_sub(made) >= milliseconds(PERIOD);
        let order = Ordering::Relaxed;
        if !is_due || self.made.compare_exchange(made, now, order, order).is_err() {
            return;
        }
        let latest = now.saturating_sub(milliseconds(LEAST));
        let may_end = |rest: &Rest| {
            let since = rest.since.load(Ordering::Relaxed);
            (since != BUSY && since <= latest).then_some(since)
        };
        let mut all = 0;
        let mut waits = Vec::new();
        for places in &self.places {
            let places = lock(places);
            all += places.taken.len() - places.free.len();
            waits.extend(places.connections().filter_map(|rest| may_end(rest)));
        }
        let mut left = (all / PART).max(1).min(waits.len());
        if left == 0 {
            return;
        }
        let (_, last, _) = waits.select_nth_unstable(left - 1);
        for places in &self.places {
            for rest in lock(places).connections() {
                match may_end(rest) {
                    Some(since) if left > 0 && since <= *last && rest.tell(since) => left -= 1,
                    _ => {}
                }
            }
        }
    }

    /// Never what stands for something else.
    fn time(&self, instant: Instant) -> u64 {
        milliseconds(instant.saturating_duration_since(self.opened)) + 1
    }
}

impl Places {
    fn connections(&self) -> impl Iterator<Item = &Arc<Rest>> {
        self.taken.iter().flatten()
    }
}

impl Rest {
    fn tell(&self, since: u64) -> bool {
        let order = Ordering::Relaxed;
        let is_told = self.since.compare_exchange(since, TOLD, order, order);
        if is_told.is_ok() {
            self.waker.wake_by_ref();
        }
        is_told.is_ok()
    }
}

impl Place {
    /// For a connection that the task of this waker serves. It is busy.
    pub(crate) fn take(worker: &Arc<Worker>, waker: &Waker) -> Place {
        let rest = Arc::new(Rest {
            since: AtomicU64::new(BUSY),
            waker: waker.clone(),
        });
        let mut places = lock(places_of(worker));
        let number = match places.free.pop() {
            Some(number) => {
                places.taken[number] = Some(Arc::clone(&rest));
                number
            }
            None => {
                places.taken.push(Some(Arc::clone(&rest)));
                places.taken.len() - 1
            }
        };
        drop(places);
        Place {
            worker: Arc::clone(worker),
            number,
            rest,
        }
    }

    /// It waits for a request from then on.
    pub(crate) fn waits(&self, since: Instant) {
        let since = self.worker.room.time(since);
        self.rest.since.store(since, Ordering::Relaxed);
    }

    /// It has something to do, whatever it was told.
    pub(crate) fn works(&self) {
        self.rest.since.store(BUSY, Ordering::Relaxed);
    }

    pub(crate) fn is_told(&self) -> bool {
        self.rest.since.load(Ordering::Relaxed) == TOLD
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_told() {
            count(&self.worker.counters.reclaimed);
        }
        let mut places = lock(places_of(&self.worker));
        places.taken[self.number] = None;
        places.free.push(self.number);
    }
}

fn places_of(worker: &Worker) -> &Mutex<Places> {
    let places = &worker.room.places;
    &places[worker.counters.worker % places.len()]
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(time: Duration) -> u64 {
    time.as_secs() * 1000 + u64::from(time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timeouts;

    fn told(places: &[Place]) -> Vec<usize> {
        let all = places.iter().enumerate();
        let told = all.filter(|(_, place)| place.is_told());
        told.map(|(number, _)| number).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_for_longest_goes_first_and_a_part_at_a_time() {
        let worker = Arc::new(Worker::idle(Timeouts::default()));
        let room = &worker.room;
        let take = |_| Place::take(&worker, Waker::noop());
        let places: Vec<_> = (0..2 * PART).map(take).collect();
        for place in places.iter().rev() {
            place.waits(Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        room.make();
        assert!(told(&places).is_empty(), "nobody has waited for long");
        tokio::time::advance(LEAST).await;
        room.make();
        let last = 2 * PART - 1;
        assert_eq!(told(&places), [last - 1, last]);
        room.make();
        assert_eq!(told(&places).len(), 2, "it was made just now");
        // One that gets a request after all, and one that has one.
        places[last].works();
        places[last - 2].works();
        tokio::time::advance(PERIOD).await;
        room.make();
        assert_eq!(told(&places), [last - 4, last - 3, last - 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_halves_what_may_be_and_passes() {
        let room = Room::new(1);
        assert_eq!(room.most(100), 100);
        room.fall_short(50);
        assert_eq!((room.most(100), room.most(20)), (25, 20));
        tokio::time::advance(SHORT - Duration::from_millis(1)).await;
        assert_eq!(room.most(100), 25);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(room.most(100), 100);
        room.fall_short(0);
        assert_eq!(room.most(100), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_taken_again_and_one_of_few_goes() {
        let worker = Arc::new(Worker::idle(Timeouts::default()));
        let first = Place::take(&worker, Waker::noop());
        let second = Place::take(&worker, Waker::noop());
        drop(first);
        let third = Place::take(&worker, Waker::noop());
        assert_eq!(lock(&worker.room.places[0]).taken.len(), 2);
        second.waits(Instant::now());
        third.waits(Instant::now());
        tokio::time::advance(LEAST).await;
        worker.room.make();
        assert_eq!(told(&[second, third]).len(), 1);
        assert_eq!(worker.counters.reclaimed.load(Ordering::Relaxed), 1);
    }
}
