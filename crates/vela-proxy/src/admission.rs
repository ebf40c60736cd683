use std::sync::atomic::Ordering;

use tokio::time::Instant;

use crate::failure::Failure;
use crate::generation::Generation;
use crate::in_flight::Pinned;
use crate::parking::{Lot, Waited};
use crate::route_table::Target;
use crate::stats::{Counters, count};
use crate::worker::Worker;

/// A request's way into a generation, past parked and just replaced ones.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    parked_since: Option<Instant>,
}

impl Admission {
    /// Pins the generation that the host goes to now, if nothing has to be waited for.
    pub(crate) fn enter_at_once(
        worker: &Worker,
        host: &str,
    ) -> Option<Result<Pinned<Generation>, Failure>> {
        match worker.routes.find(host) {
            None => Some(Err(Failure::UnknownHost)),
            Some(Target::Serving(generation)) if generation.upstreams.is_empty() => {
                Some(Err(Failure::NoUpstream))
            }
            Some(Target::Serving(generation)) => Pinned::new(&generation).map(Ok),
            Some(Target::Parked(_)) => None,
        }
    }

    /// Pins the generation that the host goes to now.
    pub(crate) async fn enter(
        &mut self,
        worker: &Worker,
        host: &str,
    ) -> Result<Pinned<Generation>, Failure> {
        loop {
            match worker.routes.find(host) {
                None => return Err(Failure::UnknownHost),
                Some(Target::Parked(lot)) => self.wait(&lot, &worker.counters).await?,
                Some(Target::Serving(generation)) if generation.upstreams.is_empty() => {
                    return Err(Failure::NoUpstream);
                }
                // No pin: it was replaced and closed since the table was read, so the table that
                // is read now has another one.
                Some(Target::Serving(generation)) => {
                    if let Some(pinned) = Pinned::new(&generation) {
                        return Ok(pinned);
                    }
                }
            }
        }
    }

    async fn wait(&mut self, lot: &Lot, counters: &Counters) -> Result<(), Failure> {
        let since = match self.parked_since {
            Some(since) => since,
            None => {
                count(&counters.parked_total);
                *self.parked_since.insert(Instant::now())
            }
        };
        let _parked = Parked::count(counters);
        match lot.wait(since).await {
            Waited::Released => Ok(()),
            Waited::Full => Err(Failure::ParkFull),
            Waited::TooLong => Err(Failure::ParkTooLong),
        }
    }
}

/// Counts a request as parked while it waits, also when its client goes meanwhile.
struct Parked<'a>(&'a Counters);

impl<'a> Parked<'a> {
    fn count(counters: &'a Counters) -> Parked<'a> {
        count(&counters.parked_now);
        Parked(counters)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked_now.fetch_sub(1, Ordering::Relaxed);
    }
}
