use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Upstream;
use crate::health::Health;

/// Which upstream of several a request goes to.
///
/// Two are drawn at random, in proportion to their weights, and the one with less in flight for its
/// weight is chosen ("The Power of Two Choices in Randomized Load Balancing", Mitzenmacher 2001).
/// Nearly as good as to know the least loaded of all, and it does not send everybody there at once.
/// Where neither has less, the one that was drawn first is chosen, so that the weights are the
/// shares also where requests come one by one.
#[derive(Debug)]
pub(crate) struct Balancer {
    members: Box<[Member]>,
    loads: Box<[Load]>,
}

/// What is rarely written to.
#[derive(Debug)]
struct Member {
    weight: u16,
    /// That of the same upstream in the generation before, if it was there.
    health: Arc<Health>,
}

/// Requests and streams in flight: written to by all workers, so in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Load(AtomicUsize);

/// Who is asked before whom, whatever there is in flight: first those that are not ejected, and
/// among them those that are no mere stand-ins.
type Rank = (bool, bool);

impl Balancer {
    /// Each has the health that `known` has of it, or is taken for healthy.
    pub(crate) fn new(
        upstreams: &[Upstream],
        known: impl Fn(&Upstream) -> Option<Arc<Health>>,
    ) -> Balancer {
        let member = |upstream: &Upstream| Member {
            weight: upstream.weight,
            health: known(upstream).unwrap_or_default(),
        };
        Balancer {
            members: upstreams.iter().map(member).collect(),
            loads: upstreams.iter().map(|_| Load::default()).collect(),
        }
    }

    pub(crate) fn health(&self, upstream: usize) -> &Arc<Health> {
        &self.members[upstream].health
    }

    pub(crate) fn in_flight(&self, upstream: usize) -> usize {
        self.loads[upstream].0.load(Ordering::Relaxed)
    }

    /// Chooses one that has not been tried, and counts one more in flight there.
    pub(crate) fn enter(&self, tried: &[usize]) -> Option<usize> {
        let chosen = self.choose(tried)?;
        self.loads[chosen].0.fetch_add(1, Ordering::Relaxed);
        Some(chosen)
    }

    pub(crate) fn leave(&self, upstream: usize) {
        self.loads[upstream].0.fetch_sub(1, Ordering::Relaxed);
    }

    fn choose(&self, tried: &[usize]) -> Option<usize> {
        let (rank, first) = self.draw(|one| !tried.contains(&one))?;
        let second = self.draw(|one| one != first && !tried.contains(&one));
        match second {
            Some((other, second)) if other == rank && self.has_less(second, first) => Some(second),
            _ => Some(first),
        }
    }

    /// One of the best rank, at random by weight.
    fn draw(&self, may: impl Fn(usize) -> bool) -> Option<(Rank, usize)> {
        let mut drawn: Option<(Rank, usize)> = None;
        let mut total = 0;
        for (index, member) in self.members.iter().enumerate() {
            if !may(index) {
                continue;
            }
            let rank = member.rank();
            match drawn {
                Some((best, _)) if rank > best => continue,
                Some((best, _)) if rank == best => {}
                _ => total = 0,
            }
            // The n-th one takes the place with its share of all so far: in the end each has its own.
            total += member.share();
            if total == member.share() || fastrand::u64(..total) < member.share() {
                drawn = Some((rank, index));
            }
        }
        drawn
    }

    fn has_less(&self, one: usize, other: usize) -> bool {
        let load = |one: usize, by: usize| {
            let share = u128::from(self.members[by].share());
            self.in_flight(one) as u128 * share
        };
        load(one, other) < load(other, one)
    }
}

impl Member {
    fn rank(&self) -> Rank {
        (self.health.is_ejected(), self.weight == 0)
    }

    /// Stand-ins, which are only compared with each other, have equal shares.
    fn share(&self) -> u64 {
        u64::from(self.weight.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(weights: &[u16]) -> Balancer {
        fastrand::seed(7);
        let upstreams = weights.iter().map(|&weight| Upstream {
            weight,
            ..Upstream::new(std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
        });
        Balancer::new(&upstreams.collect::<Vec<_>>(), |_| None)
    }

    /// How often each is chosen when each request ends before the next one begins.
    fn shares(balancer: &Balancer, requests: usize) -> Vec<usize> {
        let mut shares = vec![0; balancer.members.len()];
        for _ in 0..requests {
            let chosen = balancer.enter(&[]).unwrap();
            shares[chosen] += 1;
            balancer.leave(chosen);
        }
        shares
    }

    #[test]
    fn requests_one_by_one_are_shared_by_weight() {
        let shares = shares(&balancer(&[3, 0, 1, 6]), 10_000);
        assert_eq!(shares[1], 0);
        for (share, expected) in [(0, 3_000), (2, 1_000), (3, 6_000)] {
            assert!(shares[share].abs_diff(expected) < 300, "{shares:?}");
        }
    }

    #[test]
    fn requests_at_once_are_shared_by_weight_and_closer_than_chance() {
        let balancer = balancer(&[3, 0, 1, 6]);
        for _ in 0..1_000 {
            balancer.enter(&[]).unwrap();
        }
        let loads: Vec<_> = (0..4).map(|one| balancer.in_flight(one)).collect();
        assert_eq!(loads[1], 0);
        for (one, expected) in [(0, 300usize), (2, 100), (3, 600)] {
            assert!(loads[one].abs_diff(expected) <= 5, "{loads:?}");
        }
    }

    #[test]
    fn who_is_slow_gets_little() {
        let balancer = balancer(&[1, 1, 1]);
        // All that it ever gets stays there.
        let mut slow = 0;
        for _ in 0..1_000 {
            match balancer.enter(&[]).unwrap() {
                0 => slow += 1,
                quick => balancer.leave(quick),
            }
        }
        // Its first one; then it is always the one of two with more.
        assert_eq!(slow, 1);
    }

    #[test]
    fn who_is_ejected_is_the_last_resort_and_a_stand_in_the_one_before() {
        let balancer = balancer(&[5, 1, 0, 0]);
        let order = |balancer: &Balancer| {
            let mut tried = Vec::new();
            while let Some(next) = balancer.enter(&tried) {
                balancer.leave(next);
                tried.push(next);
            }
            tried
        };
        for _ in 0..20 {
            let order = order(&balancer);
            assert!(order[..2].contains(&0) && order[..2].contains(&1));
            assert_eq!(order.len(), 4);
        }
        assert!(balancer.health(0).refused().is_some());
        assert!(balancer.health(3).refused().is_some());
        for _ in 0..20 {
            assert_eq!(order(&balancer), [1, 2, 0, 3]);
        }
        // With nobody else all are tried.
        assert!(balancer.health(1).refused().is_some());
        assert!(balancer.health(2).refused().is_some());
        assert_ne!(shares(&balancer, 1_000)[1], 0);
        assert_eq!(order(&balancer).len(), 4);
    }
}
