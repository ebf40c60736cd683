use std::ops::Deref;
use std::sync::Arc;

use crate::ProxyConfig;
use crate::generation::Generation;
use crate::in_flight::Pinned;
use crate::probe;

/// A request's stay in a generation, at one of its upstreams at a time. It counts there for as long
/// as it stays, also as the stream that it may become.
#[derive(Debug)]
pub(crate) struct Visit {
    generation: Pinned<Generation>,
    at: Option<usize>,
    /// Where it was before: no upstream is tried twice.
    left: Vec<usize>,
}

impl Visit {
    pub(crate) fn new(generation: Pinned<Generation>) -> Visit {
        Visit {
            generation,
            at: None,
            left: Vec::new(),
        }
    }

    /// Moves on to an upstream that it has not been at, if there is one.
    pub(crate) fn next(&mut self) -> Option<usize> {
        let last = self.leave();
        self.left.extend(last);
        self.at = match self.generation.balancer() {
            Some(balancer) => balancer.enter(&self.left),
            None => {
                let is_first = self.left.is_empty() && !self.generation.upstreams.is_empty();
                is_first.then_some(0)
            }
        };
        self.at
    }

    pub(crate) fn become_stream(&mut self) {
        self.generation.become_stream();
    }

    /// The upstream responds.
    pub(crate) fn answered(&self) {
        if let (Some(balancer), Some(at)) = (self.generation.balancer(), self.at) {
            balancer.health(at).answered();
        }
    }

    /// The upstream accepts no connection.
    pub(crate) fn refused(&self, config: &Arc<ProxyConfig>) {
        if let (Some(balancer), Some(at)) = (self.generation.balancer(), self.at)
            && let Some(pauses) = balancer.health(at).refused()
        {
            let upstream = &self.generation.upstreams[at];
            probe::begin(balancer.health(at), upstream, pauses, config);
        }
    }

    /// The upstream accepted a connection, but does not respond.
    pub(crate) fn lost(&self, config: &Arc<ProxyConfig>) {
        if let (Some(balancer), Some(at)) = (self.generation.balancer(), self.at)
            && let Some(pauses) = balancer.health(at).lost()
        {
            let upstream = &self.generation.upstreams[at];
            probe::begin(balancer.health(at), upstream, pauses, config);
        }
    }

    fn leave(&mut self) -> Option<usize> {
        let at = self.at.take()?;
        if let Some(balancer) = self.generation.balancer() {
            balancer.leave(at);
        }
        Some(at)
    }
}

impl Deref for Visit {
    type Target = Generation;

    fn deref(&self) -> &Generation {
        &self.generation
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upstream;

    #[test]
    fn each_upstream_is_tried_once_and_nothing_stays_counted() {
        for weights in [&[1u16, 1, 1][..], &[0, 0], &[1], &[0], &[]] {
            let upstreams = weights.iter().map(|&weight| Upstream {
                weight,
                ..Upstream::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
            });
            let generation = Arc::new(Generation::new(1, upstreams.collect(), None));
            for _ in 0..5 {
                let mut visit = Visit::new(Pinned::new(&generation).unwrap());
                let mut tried = Vec::new();
                while let Some(next) = visit.next() {
                    assert_eq!(generation.upstream_in_flight(next), 1);
                    tried.push(next);
                }
                tried.sort_unstable();
                assert_eq!(tried, (0..weights.len()).collect::<Vec<_>>());
            }
            let left_there = Visit::new(Pinned::new(&generation).unwrap()).next();
            assert_eq!(left_there.is_some(), !weights.is_empty());
            for upstream in 0..weights.len() {
                assert_eq!(generation.upstream_in_flight(upstream), 0);
            }
        }
    }
}
