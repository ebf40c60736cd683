use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// Hands out free TCP ports at random. Clones share their leases.
#[derive(Debug, Clone)]
pub struct Ports {
    range: RangeInclusive<u16>,
    leases: Leases,
}

/// How many leases there are of each port: an adopted port may have several.
type Leases = Arc<Mutex<BTreeMap<u16, u32>>>;

impl Ports {
    /// Ports of this range, both ends included.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self {
            range,
            leases: Leases::default(),
        }
    }

    /// A port that nobody listens on, on any address, and that is given to nobody else while the
    /// lease lives. Nothing keeps a stranger from taking it meanwhile: see
    /// [`listener_of`](crate::listener_of).
    ///
    /// One that closed connections linger on (`TIME_WAIT`) is given only when there is no other:
    /// servers that set `SO_REUSEADDR`, as nearly all do, can listen on it.
    ///
    /// # Errors
    /// When none is left.
    pub fn reserve(&self) -> Result<PortLease, PortsError> {
        let (first, last) = (u32::from(*self.range.start()), u32::from(*self.range.end()));
        let none = PortsError::NoneFree {
            first: *self.range.start(),
            last: *self.range.end(),
        };
        let Some(count) = (last + 1).checked_sub(first).filter(|count| *count > 0) else {
            return Err(none);
        };
        let start = getrandom::u32().map_err(PortsError::Random)? % count;
        for lingering in [Lingering::Excluded, Lingering::Included] {
            for step in 0..count {
                let port = u16::try_from(first + (start + step) % count).unwrap_or_default();
                let Some(lease) = self.lease(port) else {
                    continue;
                };
                match is_free(port, lingering) {
                    Ok(true) => return Ok(lease),
                    Ok(false) => {}
                    Err(source) => return Err(PortsError::Probe { port, source }),
                }
            }
        }
        Err(none)
    }

    /// Leases the port of an instance that runs already, whatever the range.
    pub fn adopt(&self, port: u16) -> PortLease {
        *leases(&self.leases).entry(port).or_default() += 1;
        PortLease {
            port,
            leases: self.leases.clone(),
        }
    }

    /// `None` while it is leased. Taken before the port is tried, which takes a while.
    fn lease(&self, port: u16) -> Option<PortLease> {
        let mut held = leases(&self.leases);
        if held.contains_key(&port) {
            return None;
        }
        held.insert(port, 1);
        Some(PortLease {
            port,
            leases: self.leases.clone(),
        })
    }
}

/// A port that is ours until this is dropped.
#[derive(Debug)]
#[must_use = "the port is free again once the lease is dropped"]
pub struct PortLease {
    port: u16,
    leases: Leases,
}

impl PortLease {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        let mut held = leases(&self.leases);
        if let Some(count) = held.get_mut(&self.port) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.port);
            }
        }
    }
}

/// Why no port could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortsError {
    /// Each port of the range is leased or in use.
    #[error("no port is free from {first} to {last}")]
    NoneFree {
        /// The first of the range.
        first: u16,
        /// The last of the range.
        last: u16,
    },
    /// A port could not be tried.
    #[error("cannot try port {port}")]
    Probe {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel gave no random number.
    #[error("cannot choose a port at random")]
    Random(#[source] getrandom::Error),
}

fn leases(leases: &Leases) -> MutexGuard<'_, BTreeMap<u16, u32>> {
    // One insert or remove at a time: a panic leaves the map whole.
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What to make of a port that has no listener, but connections that were closed a minute ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lingering {
    /// Free for a server that sets SO_REUSEADDR.
    Included,
    /// Not free for one that does not.
    Excluded,
}

/// Binds as a server would. Never listens, so that no client is answered by accident.
fn is_free(port: u16, lingering: Lingering) -> io::Result<bool> {
    let any: [SocketAddr; 2] = [
        (Ipv4Addr::UNSPECIFIED, port).into(),
        (Ipv6Addr::UNSPECIFIED, port).into(),
    ];
    for address in any {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = match socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None) {
            Ok(socket) => socket,
            Err(Errno::AFNOSUPPORT) => continue,
            Err(error) => return Err(error.into()),
        };
        set_socket_reuseaddr(&socket, lingering == Lingering::Included)?;
        match bind(&socket, &address) {
            Ok(()) | Err(Errno::ADDRNOTAVAIL) => {}
            Err(Errno::ADDRINUSE | Errno::ACCESS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::Read;
    use std::net::TcpListener;

    /// Ports that were free a moment ago, away from those that other tests are given.
    fn range_of(count: u16) -> RangeInclusive<u16> {
        (0..100)
            .map(|_| 10_000 + (getrandom::u32().unwrap() % 20_000) as u16)
            .map(|first| first..=first + count - 1)
            .find(|range| range.clone().all(is_strictly_free))
            .expect("some ports are free")
    }

    fn is_strictly_free(port: u16) -> bool {
        is_free(port, Lingering::Excluded).unwrap()
    }

    #[test]
    fn a_port_with_closed_connections_is_the_last_choice() {
        let range = range_of(2);
        let server = TcpListener::bind(("127.0.0.1", *range.start())).unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        // The side that closes first is the one that lingers.
        drop(server.accept().unwrap());
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        drop((client, server));
        assert!(!is_strictly_free(*range.start()));

        let ports = Ports::new(range.clone());
        let first = ports.reserve().unwrap();
        assert_eq!(first.port(), *range.end());
        let second = ports.reserve().unwrap();
        assert_eq!(second.port(), *range.start());
        TcpListener::bind(("127.0.0.1", second.port())).unwrap();
    }

    #[test]
    fn gives_each_port_once_while_its_lease_lives() {
        let ports = Ports::new(range_of(8));
        let mut leases: Vec<_> = (0..8).map(|_| ports.clone().reserve().unwrap()).collect();
        let given: HashSet<_> = leases.iter().map(PortLease::port).collect();
        assert_eq!(given.len(), 8);
        assert!(matches!(ports.reserve(), Err(PortsError::NoneFree { .. })));
        let returned = leases.pop().unwrap().port();
        assert_eq!(ports.reserve().unwrap().port(), returned);
    }

    #[test]
    fn passes_over_ports_that_somebody_listens_on() {
        for address in ["127.0.0.1", "0.0.0.0", "[::1]"] {
            let range = range_of(2);
            let Ok(_taken) = TcpListener::bind(format!("{address}:{}", range.start())) else {
                continue; // no IPv6 here
            };
            let ports = Ports::new(range.clone());
            let lease = ports.reserve().unwrap();
            assert_eq!(lease.port(), *range.end(), "{address}");
            assert!(ports.reserve().is_err());
        }
    }

    #[test]
    fn an_adopted_port_is_free_after_its_last_lease() {
        let ports = Ports::new(range_of(1));
        let port = *ports.range.start();
        let (one, two) = (ports.adopt(port), ports.adopt(port));
        drop(one);
        assert!(ports.reserve().is_err());
        drop(two);
        assert_eq!(ports.reserve().unwrap().port(), port);
    }

    #[test]
    fn an_empty_range_has_none() {
        #[expect(clippy::reversed_empty_ranges, reason = "it is the point")]
        let ports = Ports::new(2..=1);
        assert!(matches!(ports.reserve(), Err(PortsError::NoneFree { .. })));
    }
}
