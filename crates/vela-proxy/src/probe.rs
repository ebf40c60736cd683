use std::sync::{Arc, Weak};

use crate::dial::dial;
use crate::generation::Generation;
use crate::health::Pauses;
use crate::in_flight::Pinned;
use crate::{ProxyConfig, Upstream};

/// Connects to an upstream that was ejected, again and again and with nothing to ask, until it
/// accepts: then it is back, and no client's request was at risk.
pub(crate) fn begin(
    generation: &Pinned<Generation>,
    upstream: usize,
    pauses: Pauses,
    config: &Arc<ProxyConfig>,
) {
    let Upstream { tag, address, .. } = &generation.upstreams[upstream];
    tracing::warn!(%tag, %address, "an instance is ejected: it takes no requests");
    let ejected = Ejected {
        generation: generation.downgrade(),
        upstream,
    };
    tokio::spawn(probe(ejected, pauses, Arc::clone(config)));
}

async fn probe(ejected: Ejected, pauses: Pauses, config: Arc<ProxyConfig>) {
    for pause in pauses {
        tokio::time::sleep(pause).await;
        // It keeps no generation alive for longer than it looks.
        let upstream = match ejected.generation.upgrade() {
            Some(generation) if !generation.in_flight().is_closed() => {
                generation.upstreams[ejected.upstream].clone()
            }
            _ => return,
        };
        if dial(&upstream, &config).await.is_ok() {
            let Upstream { tag, address, .. } = &upstream;
            tracing::info!(%tag, %address, "an instance is back");
            return;
        }
    }
}

/// Brings the upstream back when it goes: also when the worker that probes it ends, so that one
/// of another worker may eject it again.
struct Ejected {
    generation: Weak<Generation>,
    upstream: usize,
}

impl Drop for Ejected {
    fn drop(&mut self) {
        if let Some(generation) = self.generation.upgrade() {
            generation.restore(self.upstream);
        }
    }
}
