use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use vela_proxy::{Proxy, ProxyConfig, RouteSpec, Router, Serving, Upstream};

/// Vela's proxy as a library, in front of one server. It stops with this value.
#[derive(Debug)]
pub struct Front {
    addr: SocketAddr,
    proxy: Proxy,
    _serving: Serving,
}

impl Front {
    /// Sends these hosts' requests to `upstream`.
    pub async fn start(config: ProxyConfig, hosts: &[&str], upstream: SocketAddr) -> Front {
        let proxy = Proxy::new(ProxyConfig {
            workers: NonZeroUsize::new(2).unwrap(),
            ..config
        });
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let route = RouteSpec::new("app", hosts, vec![Upstream::new(upstream)]);
        assert!(proxy.apply(route).await.unwrap().is_none());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = proxy.serve(vec![listener]).unwrap();
        Front {
            addr,
            proxy,
            _serving: serving,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has done, and does now.
    pub fn stats(&self) -> vela_proxy::Stats {
        self.proxy.stats()
    }

    /// How many connections of clients there have been.
    pub fn accepted(&self) -> u64 {
        self.metric("vela_proxy_connections_accepted_total")
    }

    /// The value of a metric, with its labels; 0 if there is none.
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.proxy.metrics().text;
        let mut lines = metrics.lines().filter_map(|line| line.split_once(' '));
        let value = lines.find_map(|(one, value)| (one == name).then_some(value));
        value.map_or(0, |value| value.parse().unwrap())
    }
}
