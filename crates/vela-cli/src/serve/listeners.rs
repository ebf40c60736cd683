use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{info, warn};

use super::holder::holder;
use super::notify;
use crate::failure::Failure;

/// Connections that the kernel holds while nobody accepts: those of a restart, at a few thousand a second.
const BACKLOG: i32 = 4096;

/// What to listen on, and which key of server.toml says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) address: SocketAddr,
    pub(super) key: PortKey,
}

/// A key of `[proxy]` that is a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortKey {
    Http,
    Https,
}

/// Sockets that listen, but from which nothing is accepted yet.
#[derive(Debug)]
pub(super) struct Listeners {
    bound: Vec<Bound>,
}

/// One of them, and where it came to be.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) key: PortKey,
    pub(super) socket: TcpListener,
}

impl PortKey {
    fn name(self) -> &'static str {
        match self {
            PortKey::Http => "http_port",
            PortKey::Https => "https_port",
        }
    }

    /// A port that needs no root.
    pub(super) fn unprivileged(self) -> u16 {
        match self {
            PortKey::Http => 8080,
            PortKey::Https => 8443,
        }
    }
}

impl Listeners {
    /// Takes the sockets that systemd holds for this process, and binds the rest. Call it while there is one thread.
    pub(super) fn take_or_bind(wanted: &[Wanted]) -> Result<Listeners, Failure> {
        let mut inherited = inherited();
        let mut bound = Vec::with_capacity(wanted.len());
        for &Wanted { address, key } in wanted {
            let held = inherited.iter().position(|(held, _)| *held == address);
            if let Some(at) = held {
                info!(%address, "took the listener that systemd holds");
                let (address, socket) = inherited.swap_remove(at);
                bound.push(Bound {
                    address,
                    key,
                    socket,
                });
                continue;
            }
            // Beside its IPv4 sister an IPv6 socket must not take both.
            let only_v6 = wanted
                .iter()
                .any(|other| other.address.ip() == Ipv4Addr::UNSPECIFIED);
            let socket = bind(address, only_v6).map_err(|error| refused(address, key, &error))?;
            let address = socket.local_addr().unwrap_or(address);
            notify::store(address, &socket);
            bound.push(Bound {
                address,
                key,
                socket,
            });
        }
        for (address, _) in inherited {
            warn!(%address, "systemd holds a listener that server.toml does not ask for: closed");
            notify::forget(address);
        }
        Ok(Listeners { bound })
    }

    /// The sockets to serve, in the order that was wanted.
    pub(super) fn into_bound(self) -> Vec<Bound> {
        self.bound
    }
}

/// What to listen on: each address at the port; every address where none is named.
pub(super) fn addresses(named: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    if !named.is_empty() {
        return named.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    }
    // One socket for both families, where the machine has both.
    let every: IpAddr = match Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    vec![SocketAddr::new(every, port)]
}

fn inherited() -> Vec<(SocketAddr, TcpListener)> {
    let mut held = ListenFd::from_env();
    (0..held.len())
        .filter_map(|at| {
            let listener = held.take_tcp_listener(at).ok().flatten()?;
            Some((listener.local_addr().ok()?, listener))
        })
        .collect()
}

fn bind(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Connections of a daemon that ended a moment ago must not keep the next one away.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn refused(address: SocketAddr, key: PortKey, error: &io::Error) -> Failure {
    let failure = Failure::because(format!("cannot listen on {address}"), error);
    match error.kind() {
        io::ErrorKind::AddrInUse => match holder(address.port()) {
            Some(process) => Failure::new(format!(
                "cannot listen on {address}: {process} holds port {}",
                address.port()
            )),
            None => failure,
        }
        .with_hint(format!(
            "stop that process, or set another `{}` in [proxy] of server.toml",
            key.name()
        )),
        io::ErrorKind::PermissionDenied => failure.with_hint(format!(
            "ports below 1024 need root, or `{} = {}` in [proxy] of server.toml",
            key.name(),
            key.unprivileged()
        )),
        io::ErrorKind::AddrNotAvailable => {
            failure.with_hint("`bind` in [proxy] of server.toml must be an address of this machine")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Cause;

    fn at(text: &str) -> Wanted {
        wanted(text.parse().unwrap())
    }

    fn wanted(address: SocketAddr) -> Wanted {
        let key = PortKey::Https;
        Wanted { address, key }
    }

    fn addresses_of(listeners: Listeners) -> (Vec<Wanted>, Vec<Bound>) {
        let bound = listeners.into_bound();
        let addresses = bound.iter().map(|one| wanted(one.address)).collect();
        (addresses, bound)
    }

    #[test]
    fn a_taken_port_is_refused_with_its_holder() {
        let first = Listeners::take_or_bind(&[at("127.0.0.1:0")]).unwrap();
        let (addresses, _sockets) = addresses_of(first);
        let failure = Listeners::take_or_bind(&addresses).unwrap_err();
        let Cause::Report(report) = failure.cause else {
            panic!()
        };
        let own = format!("(pid {})", std::process::id());
        assert!(report.message.contains(&own), "{report}");
        assert!(report.hint.unwrap().contains("`https_port`"));
    }

    #[test]
    fn both_families_can_be_named() {
        let port = {
            let listeners = Listeners::take_or_bind(&[at("127.0.0.1:0")]).unwrap();
            let (addresses, _sockets) = addresses_of(listeners);
            addresses[0].address.port()
        };
        let both = addresses(&["0.0.0.0".parse().unwrap(), "::".parse().unwrap()], port);
        let both: Vec<Wanted> = both.into_iter().map(wanted).collect();
        match Listeners::take_or_bind(&both) {
            Ok(listeners) => assert_eq!(addresses_of(listeners).0, both),
            // A machine without IPv6 says so; it must not say that the port is taken by its own sister.
            Err(failure) => assert!(
                !format!("{failure:?}").contains("holds port"),
                "{failure:?}"
            ),
        }
    }
}
