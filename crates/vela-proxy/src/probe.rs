use std::sync::{Arc, Weak};

use crate::dial::dial;
use crate::health::{Health, Pauses};
use crate::{ProxyConfig, Upstream};

/// Connects to an upstream that was ejected, again and again and with nothing to ask, until it
/// accepts: then it is back, and no client's request was at risk.
pub(crate) fn begin(
    health: &Arc<Health>,
    upstream: &Upstream,
    pauses: Pauses,
    config: &Arc<ProxyConfig>,
) {
    let Upstream { tag, address, .. } = upstream;
    tracing::warn!(%tag, %address, "an instance is ejected: it takes no requests");
    let ejected = Ejected {
        health: Arc::downgrade(health),
        upstream: upstream.clone(),
    };
    tokio::spawn(probe(ejected, pauses, Arc::clone(config)));
}

async fn probe(ejected: Ejected, pauses: Pauses, config: Arc<ProxyConfig>) {
    for pause in pauses {
        tokio::time::sleep(pause).await;
        // No generation has it any more.
        if ejected.health.strong_count() == 0 {
            return;
        }
        if dial(&ejected.upstream, &config).await.is_ok() {
            let Upstream { tag, address, .. } = &ejected.upstream;
            tracing::info!(%tag, %address, "an instance is back");
            return;
        }
    }
}

/// Brings the upstream back when it goes: also when the worker that probes it ends, so that one
/// of another worker may eject it again.
struct Ejected {
    /// That of all generations that have the upstream, one after another.
    health: Weak<Health>,
    upstream: Upstream,
}

impl Drop for Ejected {
    fn drop(&mut self) {
        if let Some(health) = self.health.upgrade() {
            health.restore();
        }
    }
}
