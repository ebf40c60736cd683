//! A proxy, upstreams and clients on real sockets, at the level of bytes.

mod backend;
mod client;
mod exposition;

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::time::Duration;

pub(crate) use backend::Backend;
pub(crate) use client::{Answer, Client};
pub(crate) use exposition::Exposition;
use vela_proxy::{Address, Proxy, ProxyConfig, Replaced, RouteSpec, Router, Serving, Upstream};

/// Longer than anything takes, so that a hanging test fails instead.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) addr: SocketAddr,
    pub(crate) serving: Serving,
}

impl World {
    pub(crate) fn start() -> World {
        World::with(ProxyConfig::default())
    }

    pub(crate) fn with(config: ProxyConfig) -> World {
        World::on(TcpListener::bind("127.0.0.1:0").unwrap(), config)
    }

    pub(crate) fn on(listener: TcpListener, config: ProxyConfig) -> World {
        let proxy = Proxy::new(ProxyConfig {
            workers: NonZeroUsize::new(2).unwrap(),
            ..config
        });
        let addr = listener.local_addr().unwrap();
        let serving = proxy.serve(vec![listener]).unwrap();
        World {
            proxy,
            addr,
            serving,
        }
    }

    /// Sends `a.test` to these upstreams.
    pub(crate) async fn route(&self, upstreams: &[SocketAddr]) -> Option<Replaced> {
        self.proxy
            .apply(spec("app", "a.test", upstreams))
            .await
            .unwrap()
    }

    /// The upstreams that are not asked.
    pub(crate) fn ejected(&self) -> Vec<SocketAddr> {
        let mut ejected = Vec::new();
        for upstream in self.proxy.upstreams() {
            match upstream.address {
                Address::Tcp(addr) if upstream.is_ejected => ejected.push(addr),
                _ => {}
            }
        }
        ejected
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addr).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let mut client = self.client().await;
        client.get(path).await
    }

    pub(crate) fn metrics(&self) -> Exposition {
        Exposition::parse(&self.proxy.metrics().text)
    }

    /// The same, as soon as a sample has that value: requests are counted when their client has
    /// its answer already.
    pub(crate) async fn metrics_when(&self, sample: &str, value: f64) -> Exposition {
        let waiting = async {
            loop {
                let metrics = self.metrics();
                if metrics.value(sample) == Some(value) {
                    return metrics;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        match tokio::time::timeout(LONG, waiting).await {
            Ok(metrics) => metrics,
            Err(_) => panic!("not reached: {sample}: {:?}", self.metrics().value(sample)),
        }
    }

    /// Waits for what the proxy's threads are about to do.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(vela_proxy::Stats) -> bool) {
        let waiting = async {
            while !holds(self.proxy.stats()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(LONG, waiting).await.is_err() {
            panic!("not reached: {what}: {:?}", self.proxy.stats());
        }
    }
}

pub(crate) fn spec(id: &str, host: &str, upstreams: &[SocketAddr]) -> RouteSpec {
    RouteSpec::new(
        id,
        vec![host.parse().unwrap()],
        upstreams.iter().map(|&addr| Upstream::new(addr)).collect(),
    )
}
