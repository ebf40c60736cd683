use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::generation::Generation;
use crate::request_body::RequestBody;

/// A connection to an upstream. Dropped, it first goes on with a request's body that it has begun
/// to send.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Aborted, it closes the connection at once.
    pub(crate) driver: AbortHandle,
}

/// One worker's unused connections to upstreams. Its lock is contended only when another thread
/// closes a generation.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
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
            idle: Mutex::new(HashMap::new()),
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
        let now = Instant::now();
        let mut idle = self.lock();
        let connections = idle.get_mut(&(generation.id, upstream))?;
        for at in (0..connections.len()).rev() {
            let idle = &connections[at];
            if idle.connection.sender.is_closed() {
                connections.remove(at);
            } else if now.duration_since(idle.since) >= max_age {
                return None; // so have all that were used before it
            } else if idle.connection.sender.is_ready() {
                return Some(connections.remove(at).connection);
            }
        }
        None
    }

    /// Keeps a connection, unless it has closed or no new request may use it.
    pub(crate) fn put(&self, generation: &Generation, upstream: usize, connection: Connection) {
        let mut idle = self.lock();
        // Checked under the lock, so that it is kept before the eviction or not at all.
        if connection.sender.is_closed() || generation.in_flight().is_closed() {
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

    /// Closes the connections that have been unused for too long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, connections| {
            connections.retain(|idle| {
                !idle.connection.sender.is_closed() && now.duration_since(idle.since) < self.max_age
            });
            !connections.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
