use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Which processors the workers run on. Two busy ones on one processor take turns of a whole tick
/// of the kernel's, 4 ms at 250 Hz, and it leaves them there when what else runs fills the other
/// processors as well: so they move apart. They are not bound to a processor: then each would wait
/// for an app that computes there, while another processor is idle.
#[derive(Debug)]
pub(crate) struct Seats {
    opened: Instant,
    seats: Box<[Seat]>,
}

/// What a worker said of itself, at its last look around.
#[derive(Debug, Default)]
struct Seat {
    processor: AtomicU64,
    /// Thousandths of the time since the look before that it ran.
    busy: AtomicU64,
    /// Nanoseconds since the seats were opened; 0 before the first look.
    looked: AtomicU64,
}

/// A worker's view of them.
#[derive(Debug)]
pub(crate) struct Sitter {
    seats: Arc<Seats>,
    number: usize,
    turns: AtomicU64,
    /// Nanoseconds of processor time at the last look.
    ran: AtomicU64,
    /// Looks in a row that found it crowded.
    crowded: AtomicU64,
}

/// How many times a worker goes to wait for events before it looks at the clock.
const TURNS: u64 = 8;
/// How often it looks around at most: several ticks, so that shares are more than chance.
const PERIOD: Duration = Duration::from_millis(5);
/// What was said longer ago says nothing.
const STALE: Duration = Duration::from_millis(50);
/// Thousandths of a processor that two have together when it is too narrow for them.
const CROWDED: u64 = 900;
/// Looks in a row that have to find it crowded where there are more than two processors. The kernel
/// spreads threads by itself there, and knows which processor is idle; a worker does not.
const LOOKS: u64 = 4;

impl Seats {
    pub(crate) fn new(workers: usize) -> Seats {
        Seats {
            opened: Instant::now(),
            seats: (0..workers).map(|_| Seat::default()).collect(),
        }
    }

    /// Whether there is anybody to move away from.
    pub(crate) fn are_many(&self) -> bool {
        self.seats.len() > 1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The processors of the other workers that have looked of late, and how busy they are.
    fn others(&self, number: usize, now: u64) -> impl Iterator<Item = (usize, u64)> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(move |&(other, seat)| {
                let looked = seat.looked.load(Ordering::Relaxed);
                other != number && looked > 0 && now.saturating_sub(looked) < nanos(STALE)
            })
            .map(|(_, seat)| {
                let processor = seat.processor.load(Ordering::Relaxed);
                (processor as usize, seat.busy.load(Ordering::Relaxed))
            })
    }
}

impl Sitter {
    pub(crate) fn new(seats: &Arc<Seats>, number: usize) -> Sitter {
        Sitter {
            seats: Arc::clone(seats),
            number,
            turns: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
        }
    }

    /// For the worker's thread alone, before it waits for events. Most times it only counts.
    pub(crate) fn look_around(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
        if !turns.is_multiple_of(TURNS) {
            return;
        }
        let seat = &self.seats.seats[self.number];
        let now = self.seats.now();
        let passed = now.saturating_sub(seat.looked.load(Ordering::Relaxed));
        if passed < nanos(PERIOD) {
            return;
        }
        let processor = sched_getcpu();
        let busy = self.busy(passed);
        seat.looked.store(now, Ordering::Relaxed);
        seat.processor.store(processor as u64, Ordering::Relaxed);
        seat.busy.store(busy, Ordering::Relaxed);
        let mut others = self.seats.others(self.number, now);
        if others.any(|(other, its)| other == processor && busy + its >= CROWDED) {
            self.crowded.fetch_add(1, Ordering::Relaxed);
            self.move_on(now);
        } else {
            self.crowded.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it has been crowded for long enough, on one of so many processors.
    fn has_waited(&self, processors: u32) -> bool {
        processors <= 2 || self.crowded.load(Ordering::Relaxed) >= LOOKS
    }

    /// Thousandths of the time that `passed` since the last look that the thread ran.
    fn busy(&self, passed: u64) -> u64 {
        let clock = clock_gettime(ClockId::ThreadCPUTime);
        let ran = clock.tv_sec as u64 * 1_000_000_000 + clock.tv_nsec as u64;
        let before = self.ran.swap(ran, Ordering::Relaxed);
        (ran.saturating_sub(before).saturating_mul(1000) / passed.max(1)).min(1000)
    }

    /// Goes to a processor that has no other worker, if there is one. Where it may run stays as it
    /// was: the kernel moves a thread off where it may not be, and does not move it back.
    fn move_on(&self, now: u64) {
        let Ok(allowed) = sched_getaffinity(None) else {
            return;
        };
        if !self.has_waited(allowed.count()) {
            return;
        }
        let mut free = allowed;
        for (processor, _) in self.seats.others(self.number, now) {
            free.unset(processor);
        }
        if free.count() == 0 || sched_setaffinity(None, &free).is_err() {
            return;
        }
        self.crowded.store(0, Ordering::Relaxed);
        let processor = sched_getcpu() as u64;
        let seat = &self.seats.seats[self.number];
        seat.processor.store(processor, Ordering::Relaxed);
        if let Err(error) = sched_setaffinity(None, &allowed) {
            tracing::warn!(%error, "a worker of the proxy may not run on all processors any more");
        }
    }
}

const fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a busy worker say that it runs there, for as long as the test lasts.
    fn take(seat: &Seat, processor: usize) {
        seat.processor.store(processor as u64, Ordering::Relaxed);
        seat.busy.store(1000, Ordering::Relaxed);
        seat.looked.store(u64::MAX, Ordering::Relaxed);
    }

    /// Once, with no regard to when it looked last.
    fn look(sitter: &Sitter) {
        std::thread::sleep(PERIOD);
        sitter.turns.store(0, Ordering::Relaxed);
        sitter.look_around();
    }

    #[test]
    fn of_more_than_two_processors_the_kernel_chooses_first() {
        let seats = Arc::new(Seats::new(2));
        let sitter = Sitter::new(&seats, 0);
        let allowed = sched_getaffinity(None).unwrap();
        // Beside somebody wherever it is, so that it has nowhere to go.
        let crowd = |is_here: bool| {
            let mut one = rustix::thread::CpuSet::new();
            one.set(sched_getcpu());
            sched_setaffinity(None, &one).unwrap();
            take(
                &seats.seats[1],
                if is_here { sched_getcpu() } else { usize::MAX },
            );
            look(&sitter);
            sched_setaffinity(None, &allowed).unwrap();
        };
        for looks in 1..LOOKS {
            crowd(true);
            assert_eq!(sitter.crowded.load(Ordering::Relaxed), looks);
            assert!(sitter.has_waited(2) && !sitter.has_waited(3));
        }
        crowd(true);
        assert!(sitter.has_waited(3));
        crowd(false);
        assert!(sitter.has_waited(2) && !sitter.has_waited(3));
    }

    #[test]
    fn who_is_crowded_goes_where_nobody_is_and_may_still_go_anywhere() {
        let allowed = sched_getaffinity(None).unwrap();
        let all: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&processor| allowed.is_set(processor))
            .collect();
        // Wherever the kernel has this thread, all but once it is to be elsewhere.
        for &free in &all {
            let seats = Arc::new(Seats::new(all.len()));
            let sitter = Sitter::new(&seats, 0);
            let taken = all.iter().filter(|&&one| one != free);
            for (seat, &processor) in seats.seats[1..].iter().zip(taken) {
                take(seat, processor);
            }
            for _ in 0..if all.len() > 2 { LOOKS } else { 1 } {
                look(&sitter);
            }
            let processor = seats.seats[0].processor.load(Ordering::Relaxed);
            assert_eq!(processor, free as u64);
            assert!(sched_getaffinity(None).unwrap() == allowed);
        }
    }

    #[test]
    fn who_has_not_looked_of_late_is_nowhere() {
        let seats = Seats::new(3);
        take(&seats.seats[1], 7);
        let now = nanos(STALE) + 5;
        assert_eq!(seats.others(0, now).collect::<Vec<_>>(), [(7, 1000)]);
        seats.seats[1].looked.store(6, Ordering::Relaxed);
        assert_eq!(seats.others(0, now).count(), 1);
        seats.seats[1].looked.store(5, Ordering::Relaxed);
        assert_eq!(seats.others(0, now).count(), 0);
    }
}
