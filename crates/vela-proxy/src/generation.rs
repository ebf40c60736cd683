use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Upstream;
use crate::in_flight::InFlight;

/// The upstreams of a route from one `apply` to the next, with the requests that they serve.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Never given twice: pooled connections are kept by it.
    pub(crate) id: u64,
    pub(crate) upstreams: Vec<Upstream>,
    weights: usize,
    turn: AtomicUsize,
    in_flight: InFlight,
}

impl Generation {
    pub(crate) fn new(id: u64, upstreams: Vec<Upstream>) -> Generation {
        Generation {
            id,
            weights: upstreams.iter().map(|one| usize::from(one.weight)).sum(),
            upstreams,
            turn: AtomicUsize::new(0),
            in_flight: InFlight::new(),
        }
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// All upstreams, the one whose turn it is first and the others as its stand-ins.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = usize> + use<> {
        let all = self.upstreams.len();
        let first = if all > 1 { self.next() } else { 0 };
        (0..all).map(move |nth| (first + nth) % all)
    }

    /// Round robin, in proportion to the weights.
    fn next(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if self.weights == 0 {
            return turn % self.upstreams.len();
        }
        let mut point = turn % self.weights;
        for (index, upstream) in self.upstreams.iter().enumerate() {
            match point.checked_sub(usize::from(upstream.weight)) {
                Some(rest) => point = rest,
                None => return index,
            }
        }
        0
    }
}

impl AsRef<InFlight> for Generation {
    fn as_ref(&self) -> &InFlight {
        &self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(weights: &[u16]) -> Generation {
        let upstreams = weights.iter().map(|&weight| Upstream {
            weight,
            ..Upstream::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
        });
        Generation::new(1, upstreams.collect())
    }

    #[test]
    fn requests_are_shared_by_weight() {
        let generation = generation(&[3, 0, 1]);
        let mut shares = [0; 3];
        for _ in 0..400 {
            shares[generation.candidates().next().unwrap()] += 1;
        }
        assert_eq!(shares, [300, 0, 100]);
    }

    #[test]
    fn each_upstream_is_tried_once() {
        for weights in [&[1u16, 1, 1][..], &[0, 0], &[1], &[0]] {
            let generation = generation(weights);
            for _ in 0..5 {
                let mut tried: Vec<_> = generation.candidates().collect();
                tried.sort_unstable();
                assert_eq!(tried, (0..weights.len()).collect::<Vec<_>>());
            }
        }
        assert_eq!(generation(&[]).candidates().count(), 0);
    }
}
