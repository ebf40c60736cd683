use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::generation::Generation;
use crate::upstream_stream::UpstreamStream;
use crate::wire::Wire;

/// A connection to an upstream.
pub(crate) type Connection = Wire<UpstreamStream>;

/// One worker's unused connections to upstreams. Its lock is contended only when another thread
/// closes a generation.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Key, Vec<Idle>, BuildHasherDefault<KeyHasher>>>,
    max_idle: usize,
    max_age: Duration,
}

/// A generation and the index of one of its upstreams.
type Key = (u64, usize);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(max_idle: usize, max_age: Duration) -> Pool {
        Pool {
            idle: Mutex::default(),
            max_idle,
            max_age,
        }
    }

    /// The connection used last, if it is open and has been unused for less than `max_age`.
    pub(crate) fn take(
        &self,
        generation: &Generation,
        upstream: usize,
        max_age: Duration,
    ) -> Option<Connection> {
        let max_age = max_age.min(self.max_age);
        let mut idle = self.lock();
        let connections = idle.get_mut(&(generation.id, upstream))?;
        while let Some(mut last) = connections.pop() {
            if last.since.elapsed() >= max_age {
                connections.push(last);
                return None; // so have all that were used before it
            }
            // Whoever takes it is told of what comes.
            if last
                .connection
                .is_quiet(&mut Context::from_waker(Waker::noop()))
            {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection, unless no new request may use it.
    pub(crate) fn put(&self, generation: &Generation, upstream: usize, mut connection: Connection) {
        connection.input.release();
        connection.output.release();
        let mut idle = self.lock();
        // Checked under the lock, so that it is kept before the eviction or not at all.
        if generation.in_flight().is_closed() {
            return;
        }
        let connections = idle.entry((generation.id, upstream)).or_default();
        if connections.len() < self.max_idle {
            connections.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    /// Closes the connections to a generation that has been closed.
    pub(crate) fn evict(&self, generation: &Generation) {
        self.lock().retain(|(id, _), _| *id != generation.id);
    }

    /// Closes all: who used them has ended.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Closes the connections that have been unused for too long, or that the upstream closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let mut cx = Context::from_waker(Waker::noop());
        self.lock().retain(|_, connections| {
            connections.retain_mut(|idle| {
                now.duration_since(idle.since) < self.max_age && idle.connection.is_quiet(&mut cx)
            });
            !connections.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Idle>, BuildHasherDefault<KeyHasher>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody chooses the numbers of generations, so that a hash need not withstand anybody.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}
