use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Network;

/// Counts the connections of each address, and lets in no more than may be.
#[derive(Debug)]
pub(crate) struct Turnstile {
    most: usize,
    /// Who may have any number: the proxies in front of this one, each of which has many clients.
    exempt: Vec<Network>,
    inside: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place, given back when it ends.
#[derive(Debug)]
pub(crate) struct Ticket(Option<(Arc<Turnstile>, IpAddr)>);

impl Turnstile {
    pub(crate) fn new(most: usize, exempt: &[Network]) -> Turnstile {
        Turnstile {
            most,
            exempt: exempt.to_vec(),
            inside: Mutex::default(),
        }
    }

    /// `None` when the address has as many as it may have. Without a limit nothing is counted.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let is_exempt = |network: &Network| network.contains(address);
        if self.most == usize::MAX || self.exempt.iter().any(is_exempt) {
            return Some(Ticket(None));
        }
        let key = subscriber(address);
        let mut inside = self.lock();
        let count = inside.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Ticket(Some((Arc::clone(self), key))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((turnstile, key)) = self.0.take() {
            let mut inside = turnstile.lock();
            if let Some(count) = inside.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    inside.remove(&key);
                }
            }
        }
    }
}

/// Who has one IPv6 address has its whole network of 64 bits.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_share() {
        let turnstile = Arc::new(Turnstile::new(2, &[]));
        let enter = |address: &str| turnstile.enter(address.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        let _network = [enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap()];
        assert!(enter("2001:db8::3").is_none() && enter("2001:db8:0:1::").is_some());
        assert_eq!(turnstile.lock().len(), 2);
    }

    #[test]
    fn who_stands_for_many_has_no_share() {
        let exempt = ["192.0.2.0/24".parse().unwrap()];
        let turnstile = Arc::new(Turnstile::new(1, &exempt));
        let enter = |address: &str| turnstile.enter(address.parse().unwrap());
        let inside: Vec<_> = (0..3).map(|_| enter("::ffff:192.0.2.1")).collect();
        assert!(inside.iter().all(Option::is_some));
        let _other = enter("192.0.3.1").unwrap();
        assert!(enter("192.0.3.1").is_none());
    }
}
