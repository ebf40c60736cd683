use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use crate::accept::{accept, prepare, welcome};
use crate::crew::Inbox;
use crate::entrance::Entrance;
#[cfg(target_os = "linux")]
use crate::seats::{Seats, Sitter};
use crate::stop::Stop;
use crate::worker::Worker;
use crate::{Drained, Listener};

/// Of so many workers one accepts. A connection wakes every thread that waits for it, and all but
/// one for nothing: between two workers that cost a fifth of the CPU of a new connection when
/// there was one at a time (`bench/README.md`). To accept is a small part of what it takes to serve,
/// so that one can do it for eight.
const WORKERS_TO_A_DOOR: usize = 8;

/// A proxy at work on its listeners. Dropped, it stops at once and breaks off what is in flight;
/// [`Serving::shutdown`] lets that end first.
#[must_use = "the proxy stops when this is dropped"]
pub struct Serving {
    stop: Arc<Stop>,
    /// What each worker's thread left unfinished when it ended.
    ends: Vec<oneshot::Receiver<usize>>,
}

impl Serving {
    /// Starts one thread for each worker. One in [`WORKERS_TO_A_DOOR`] accepts, on all the
    /// listeners, and gives the others their share.
    pub(crate) fn start(
        listeners: Vec<Listener>,
        stop: Arc<Stop>,
        workers: Vec<(Worker, Inbox)>,
    ) -> io::Result<Serving> {
        let listeners = listeners
            .into_iter()
            .map(|Listener { socket, entrance }| {
                prepare(&socket)?;
                Ok((socket, Arc::new(entrance)))
            })
            .collect::<io::Result<Vec<_>>>()?;
        // All that can fail is done before the first connection is accepted.
        #[cfg(target_os = "linux")]
        let seats = Arc::new(Seats::new(workers.len()));
        let prepared = workers
            .into_iter()
            .enumerate()
            .map(|(number, (worker, inbox))| {
                let mut runtime = runtime::Builder::new_current_thread();
                #[cfg(target_os = "linux")]
                if seats.are_many() {
                    let sitter = Sitter::new(&seats, number);
                    runtime.on_thread_park(move || sitter.look_around());
                }
                let runtime = runtime.enable_all().build()?;
                let listeners = {
                    let _inside = runtime.enter();
                    let accepts = number.is_multiple_of(WORKERS_TO_A_DOOR);
                    listeners
                        .iter()
                        .filter(|_| accepts)
                        .map(|(socket, entrance)| {
                            let socket = tokio::net::TcpListener::from_std(socket.try_clone()?)?;
                            Ok((socket, Arc::clone(entrance)))
                        })
                        .collect::<io::Result<Vec<_>>>()?
                };
                Ok((number, runtime, listeners, worker, inbox))
            })
            .collect::<io::Result<Vec<_>>>()?;
        // Dropped when one cannot be started, it stops those that were.
        let mut serving = Serving {
            stop,
            ends: Vec::with_capacity(prepared.len()),
        };
        for (number, runtime, listeners, worker, inbox) in prepared {
            let (ended, end) = oneshot::channel();
            thread::Builder::new()
                .name(format!("vela-proxy-{number}"))
                .spawn(move || {
                    let left = work(runtime, listeners, worker, inbox);
                    // Nobody waits for it when the `Serving` was dropped.
                    ended.send(left).ok();
                })?;
            serving.ends.push(end);
        }
        Ok(serving)
    }

    /// Stops accepting, lets the requests in flight end, `deadline` at most, and ends the threads.
    /// Tunnels and event streams are ended meanwhile, as [`Timeouts::stop_streams`] has it; idle
    /// connections are closed at once, and new ones that have asked for nothing 200 ms later. What
    /// was cut is in [`Drained::left`].
    ///
    /// [`Timeouts::stop_streams`]: crate::Timeouts::stop_streams
    ///
    /// Dropped before its end, the shutdown goes on by itself.
    pub async fn shutdown(mut self, deadline: Duration) -> Drained {
        let begun = Instant::now();
        let until = begun.checked_add(deadline).unwrap_or(begun);
        self.stop.tell(until);
        let mut left = 0;
        for end in std::mem::take(&mut self.ends) {
            match end.await {
                Ok(unfinished) => left += unfinished,
                Err(_) => tracing::error!("a thread of the proxy has panicked"),
            }
        }
        Drained::new(left, begun.elapsed())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // After a shutdown this is said too late to count.
        self.stop.tell(Instant::now());
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("workers", &self.ends.len())
            .finish_non_exhaustive()
    }
}

/// One thread's life. Gives the number of connections that it left unfinished.
fn work(
    runtime: Runtime,
    listeners: Vec<(tokio::net::TcpListener, Arc<Entrance>)>,
    worker: Worker,
    inbox: Inbox,
) -> usize {
    let worker = Arc::new(worker);
    let pool = Arc::clone(&worker.pool);
    let left = runtime.block_on(async {
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|(listener, entrance)| {
                tokio::spawn(accept(Arc::clone(&worker), listener, entrance))
            })
            .collect();
        tokio::spawn(welcome(Arc::clone(&worker), inbox));
        tokio::spawn(sweep(Arc::clone(&worker)));

        worker.stop.wait().await;
        for one in accepting {
            if let Err(error) = one.await {
                tracing::error!(%error, "an accept loop has panicked");
            }
        }
        worker.live.close();
        let until = worker.stop.until().unwrap_or_else(Instant::now);
        match timeout_at(until, worker.live.emptied()).await {
            Ok(()) => 0,
            Err(_) => worker.live.count(),
        }
    });
    drop(runtime); // and with it whatever is left
    pool.clear();
    left
}

/// Closes unused connections to upstreams in time.
async fn sweep(worker: Arc<Worker>) {
    let period = (worker.config.timeouts.upstream_idle / 4).max(Duration::from_millis(50));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.pool.sweep();
    }
}
