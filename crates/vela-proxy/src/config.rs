use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::{AccessLog, ErrorPages, HeaderName, Network};

/// How a [`Proxy`](crate::Proxy) behaves. The defaults are safe on the open internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// How long it waits, and for what.
    pub timeouts: Timeouts,
    /// How much it takes.
    pub limits: Limits,
    /// The proxies in front of this one. What they say in `X-Forwarded-*` is passed on, and in
    /// `Forwarded` if there is no `X-Forwarded-For`, with their own address added; their
    /// `X-Request-ID` and `X-Request-Start` are kept.
    /// The client is the nearest one in `X-Forwarded-For`, or else in `Forwarded`, that is none
    /// of them; the proxy itself when that can't be told. None by default: what anybody else
    /// says is replaced.
    pub trusted_proxies: Vec<Network>,
    /// The header in which the trusted proxies tell the client's address, as those of a content
    /// delivery network do: `CF-Connecting-IP`, say. Where they send it, it is believed in place
    /// of `X-Forwarded-For`; from anybody else it is dropped. None by default.
    pub client_ip_header: Option<HeaderName>,
    /// What is answered where the proxy answers by itself, unless the route has a page for it. The
    /// proxy's own short texts by default.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// Threads, each with a runtime and upstream connections of its own. By default one a core.
    pub workers: NonZeroUsize,
    /// Where each request is logged. Nowhere by default.
    pub access_log: Option<Arc<AccessLog>>,
}

impl Default for ProxyConfig {
    fn default() -> ProxyConfig {
        ProxyConfig {
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            trusted_proxies: Vec::new(),
            client_ip_header: None,
            error_pages: None,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            access_log: None,
        }
    }
}

impl ProxyConfig {
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let mut networks = self.trusted_proxies.iter();
        networks.any(|network| network.contains(address))
    }
}

/// How long the proxy waits, and for what. For clients it waits 10 ms at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a whole request head, from its first byte; then 408. And for the first byte of a new
    /// connection. Default 15 s.
    pub header_read: Duration,
    /// For the next request on a kept-alive client connection, from when the client has taken the
    /// last response. Default 75 s.
    pub keep_alive: Duration,
    /// For a client to send the next piece of a request's body. Then 408. It does not count while
    /// the upstream responds, when [`response_body`](Timeouts::response_body) does; a body that
    /// stalls after that ends the connection. Default 30 s.
    pub body_read: Duration,
    /// For a client to take the next piece of a response. Default 60 s.
    pub write: Duration,
    /// For an upstream to accept a connection. Then 504, or another upstream. Default 5 s.
    pub connect: Duration,
    /// For an upstream to take the next piece of a request, and to begin its response once it has
    /// all of it. Then 504. Default 60 s.
    pub response: Duration,
    /// For an upstream to send the next piece of a response's body. Then the answer is broken off.
    /// It begins anew with each piece that the client sends of the request's body meanwhile. Not
    /// for event streams and tunnels, which may be silent for as long as they like. Default 5
    /// minutes.
    pub response_body: Duration,
    /// For the route of an upstream that refuses connections to change, before the request is answered 502: whoever
    /// applies routes may be about to say that the instance died. Default 100 ms.
    pub replacement: Duration,
    /// How long a tunnel goes on after one of its two sides has closed and nothing has come from
    /// the other. Default 10 s.
    pub tunnel_linger: Duration,
    /// For a client to end what it sends after the answer that ends its connection, in all. That is
    /// thrown away, since to close before would destroy an answer that the client has not read.
    /// Default 30 s; 1 s at most when the proxy stops.
    pub linger: Duration,
    /// For the next piece of that. Default 5 s.
    pub linger_idle: Duration,
    /// For tunnels and event streams to end when the proxy is [shut down](crate::Serving::shutdown),
    /// each at a moment of its own, at random; never longer than the shutdown may take. Default 2 s.
    pub stop_streams: Duration,
    /// How long an unused connection to an upstream is kept. Default 4 s: common application
    /// servers close theirs after 5, and the side that closes first should be the proxy.
    pub upstream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            header_read: Duration::from_secs(15),
            keep_alive: Duration::from_secs(75),
            body_read: Duration::from_secs(30),
            write: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            response_body: Duration::from_secs(300),
            replacement: Duration::from_millis(100),
            tunnel_linger: Duration::from_secs(10),
            linger: Duration::from_secs(30),
            linger_idle: Duration::from_secs(5),
            stop_streams: Duration::from_secs(2),
            upstream_idle: Duration::from_secs(4),
        }
    }
}

/// How much the proxy takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request or response head in bytes. Then 431, or 502. Default 64 KiB.
    pub head_bytes: usize,
    /// The most header fields in a request or response. Then 431, or 502. Default 100.
    pub headers: usize,
    /// The longest request target in bytes. Then 414. Default 16 KiB.
    pub target_bytes: usize,
    /// The longest request body in bytes. Then 413. Unlimited by default: how much an app takes is
    /// the app's to say.
    pub body_bytes: u64,
    /// The most client connections at one time, tunnels included. What comes then waits, while
    /// connections that have been idle for a second or more are closed to make room: a few at a
    /// time, those first that have been idle for longest. Default 65,536, and no more than the
    /// process has file descriptors for.
    pub connections: usize,
    /// The most client connections at one time from one address; more are closed at once. The
    /// trusted proxies are exempt. Unlimited by default: a whole office may have one address.
    pub connections_per_address: usize,
    /// The most unused connections kept to one upstream by one worker. Default 1024:
    /// as many as were in use at one time, since they are soon closed when they are not used again.
    pub upstream_idle: usize,
}

impl Limits {
    /// How many file descriptors the process needs for so many connections: one for each, one for
    /// what it asks an upstream, and some for everything else.
    pub fn descriptors(&self) -> u64 {
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        connections
            .saturating_mul(2)
            .saturating_add(OTHER_DESCRIPTORS)
    }

    /// Allows no more connections than there are descriptors for.
    pub(crate) fn fit_descriptors(&mut self) {
        let Some(most) = getrlimit(Resource::Nofile).current else {
            return;
        };
        let connections = connections_for(most);
        if connections < self.connections {
            let (wanted, descriptors) = (self.connections, most);
            tracing::warn!(
                connections,
                wanted,
                descriptors,
                "fewer connections of clients than may be"
            );
            self.connections = connections;
        }
    }
}

/// Listeners, timers, logs, and what the rest of the program has open.
const OTHER_DESCRIPTORS: u64 = 128;

/// Of few descriptors no more than a quarter is for everything else.
fn connections_for(descriptors: u64) -> usize {
    let others = OTHER_DESCRIPTORS.min(descriptors / 4);
    let connections = ((descriptors - others) / 2).max(1);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 64 * 1024,
            headers: 100,
            target_bytes: 16 * 1024,
            body_bytes: u64::MAX,
            connections: 65_536,
            connections_per_address: usize::MAX,
            upstream_idle: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_two_descriptors() {
        for (descriptors, connections) in [(1, 1), (40, 15), (1024, 448), (131_200, 65_536)] {
            assert_eq!(connections_for(descriptors), connections);
        }
        assert_eq!(Limits::default().descriptors(), 131_200);
    }
}
