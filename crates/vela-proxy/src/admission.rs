use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use crate::failure::Failure;
use crate::generation::Generation;
use crate::in_flight::Pinned;
use crate::parking::{Lot, Waited};
use crate::route_table::{Route, Target};
use crate::stats::{Counters, count};
use crate::tally::{Count, Tally};
use crate::worker::Worker;

/// A request's way into a generation, past parked and just replaced ones.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The request's route, as it was last seen.
    route: Arc<Route>,
    /// It was seen just now, and nothing tried yet.
    is_fresh: bool,
    /// When it first had a place to wait at.
    parked_since: Option<Instant>,
}

impl Admission {
    pub(crate) fn new(route: Arc<Route>) -> Admission {
        Admission {
            route,
            is_fresh: true,
            parked_since: None,
        }
    }

    /// The route as it was when the request was let in.
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Pins the generation that the route was found with, unless it has been tried already or
    /// something has to be waited for.
    pub(crate) fn enter_at_once(&mut self) -> Option<Pinned<Generation>> {
        if !std::mem::take(&mut self.is_fresh) {
            return None;
        }
        match &self.route.target {
            Target::Serving(generation) if !generation.upstreams.is_empty() => {
                Pinned::new(generation)
            }
            _ => None,
        }
    }

    /// Pins the generation that the route has now.
    pub(crate) async fn enter(&mut self, worker: &Worker) -> Result<Pinned<Generation>, Failure> {
        loop {
            match worker.routes.get(&self.route.id) {
                None => return Err(Failure::UnknownHost),
                Some(route) => self.route = route,
            }
            match &self.route.target {
                Target::Parked(lot) => {
                    let lot = Arc::clone(lot);
                    let tally = Arc::clone(self.route.tallies.of(worker.counters.worker));
                    self.wait(&lot, &worker.counters, &tally).await?;
                }
                Target::Serving(generation) if generation.upstreams.is_empty() => {
                    return Err(Failure::NoUpstream);
                }
                // No pin: it was replaced and closed since the table was read, so the table that
                // is read now has another one.
                Target::Serving(generation) => {
                    if let Some(pinned) = Pinned::new(generation) {
                        return Ok(pinned);
                    }
                }
            }
        }
    }

    async fn wait(&mut self, lot: &Lot, counters: &Counters, tally: &Tally) -> Result<(), Failure> {
        let since = self.parked_since.unwrap_or_else(Instant::now);
        let waiting = lot.wait(since, || {
            let is_first = self.parked_since.replace(since).is_none();
            Parked::count(counters, tally, is_first)
        });
        match waiting.await {
            Waited::Released => Ok(()),
            Waited::Full => Err(Failure::ParkFull),
            Waited::TooLong => Err(Failure::ParkTooLong),
        }
    }
}

/// Counts a request as parked while it waits, also when its client goes meanwhile.
struct Parked<'a>(&'a Counters, &'a Tally);

impl<'a> Parked<'a> {
    /// A request is one of those that have waited when it waits for the first time.
    fn count(counters: &'a Counters, tally: &'a Tally, is_first: bool) -> Parked<'a> {
        count(&counters.parked_now);
        if is_first {
            count(&counters.parked_total);
            tally.add(Count::Parked, 1);
        } else {
            tally.add(Count::ParkedAgain, 1);
        }
        Parked(counters, tally)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked_now.fetch_sub(1, Ordering::Relaxed);
        self.1.add(Count::Unparked, 1);
    }
}
