//! Requests beside a switch and a drain, in all schedules with up to three preemptions, by loom.

/// What the counter is built on here.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/pin_count.rs"]
mod pin_count;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Notify};
use loom::thread;

use atomic::{AtomicU64, Ordering};
use pin_count::PinCount;

/// A route table of two generations, and what stands for their instances: a cell that
/// requests read and that the one who stops the instance writes. Loom fails the test when a
/// read and the write can happen at the same time.
struct World {
    current: AtomicU64,
    generations: [(PinCount, UnsafeCell<()>, Notify); 2],
}

fn world() -> Arc<World> {
    let generation = || (PinCount::new(), UnsafeCell::new(()), Notify::new());
    Arc::new(World {
        current: AtomicU64::new(0),
        generations: [generation(), generation()],
    })
}

/// Bounded to schedules with at most three preemptions, as loom's manual advises: without a bound
/// three threads had not been through in ten minutes, with it they take two seconds.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn request(world: &World) {
    loop {
        let current = world.current.load(Ordering::Acquire) as usize;
        let (pins, instance, last) = &world.generations[current];
        if pins.try_pin() {
            instance.with(|_| ());
            if pins.unpin() {
                last.notify();
            }
            return;
        }
        // Only a generation that the table no longer has may be closed: no spinning here.
        assert_ne!(world.current.load(Ordering::Acquire) as usize, current);
    }
}

fn switch_drain_and_stop(world: &World) {
    world.current.store(1, Ordering::Release);
    let (pins, instance, last) = &world.generations[0];
    pins.close();
    while pins.pins().0 > 0 {
        last.wait();
    }
    instance.with_mut(|_| ());
}

#[test]
fn no_request_reaches_an_instance_after_its_drain() {
    model(|| {
        let world = world();
        let requests: Vec<_> = (0..2)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || request(&world))
            })
            .collect();
        switch_drain_and_stop(&world);
        for each in requests {
            each.join().unwrap();
        }
        assert_eq!(world.generations[0].0.pins(), (0, 0));
        assert_eq!(world.generations[1].0.pins(), (0, 0));
    });
}

#[test]
fn two_closings_at_once_let_the_last_pin_out() {
    model(|| {
        let pins = Arc::new(PinCount::new());
        assert!(pins.try_pin());
        let other = Arc::clone(&pins);
        let closing = thread::spawn(move || other.close());
        pins.close();
        let last = pins.unpin();
        closing.join().unwrap();
        assert!(last && pins.is_closed() && !pins.try_pin());
    });
}

/// One of two pins becomes a stream while the generation is closed: whoever waits for the requests is told once they
/// have ended, and whoever waits for all is told by the last of either kind.
#[test]
fn a_pin_that_becomes_a_stream_is_never_missed() {
    model(|| {
        let told = Arc::new((PinCount::new(), Notify::new()));
        assert!(told.0.try_pin() && told.0.try_pin());
        let stream = Arc::clone(&told);
        let streaming = thread::spawn(move || {
            let (pins, last) = &*stream;
            if pins.become_stream() {
                last.notify();
            }
        });
        let request = Arc::clone(&told);
        let ending = thread::spawn(move || {
            let (pins, last) = &*request;
            if pins.unpin() {
                last.notify();
            }
        });
        let (pins, last) = &*told;
        pins.close();
        while pins.pins().0 > 0 {
            last.wait();
        }
        streaming.join().unwrap();
        ending.join().unwrap();
        assert_eq!(pins.pins(), (0, 1));
        assert!(pins.unpin_stream());
        assert_eq!(pins.pins(), (0, 0));
    });
}
