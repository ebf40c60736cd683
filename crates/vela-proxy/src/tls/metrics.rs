use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{CertificateStatus, Origin, Tls, TlsStats};
use crate::acme::{Certified, CertifierState};
use crate::metrics::{counter, gauge};

/// What each [`Tls`] of a proxy has done, together, and the certificates that they serve.
#[derive(Debug, Default)]
pub(crate) struct TlsSnapshot {
    stats: TlsStats,
    served: Vec<CertificateStatus>,
}

impl TlsSnapshot {
    pub(crate) fn of(all: &[Tls]) -> TlsSnapshot {
        let mut snapshot = TlsSnapshot::default();
        for tls in all {
            snapshot.stats += tls.stats();
            snapshot.served.extend(tls.store().status());
        }
        snapshot
    }
}

impl Collector for TlsSnapshot {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &self.stats;
        let mut handshakes = counter(&mut to, "tls_handshakes", "TLS handshakes")?;
        let new = stats.handshakes.saturating_sub(stats.tls12);
        let new_resumed = stats.resumed.saturating_sub(stats.tls12_resumed);
        for (version, resumed, count) in [
            (
                "1.2",
                "false",
                stats.tls12.saturating_sub(stats.tls12_resumed),
            ),
            ("1.2", "true", stats.tls12_resumed),
            ("1.3", "false", new.saturating_sub(new_resumed)),
            ("1.3", "true", new_resumed),
        ] {
            let labels = [("result", "ok"), ("version", version), ("resumed", resumed)];
            handshakes.total(&labels, count)?;
        }
        for (result, count) in [
            ("failed", stats.failed),
            ("timed_out", stats.timed_out),
            ("challenge", stats.challenges),
        ] {
            handshakes.total(&[("result", result)], count)?;
        }
        let help = "When a certificate that is served expires, as Unix time";
        let mut expiry = gauge(&mut to, "certificate_expiry_seconds", help)?;
        // Of several for one name the one that is valid for longest is served; a series twice would
        // have the whole text refused.
        let mut until: BTreeMap<(&str, Origin), u64> = BTreeMap::new();
        for one in &self.served {
            for name in one.details.iter().flat_map(|details| &details.names) {
                let known = until.entry((name.as_str(), one.origin)).or_default();
                let own = one.details.as_ref().map(|of| unix(of.not_after));
                *known = (*known).max(own.unwrap_or_default());
            }
        }
        for ((name, of), until) in until {
            expiry.value(&[("name", name), ("origin", origin(of))], until)?;
        }
        let help = "Pairs of certificate files that are refused as they are now";
        let refused = self.served.iter().filter(|one| one.problem.is_some());
        gauge(&mut to, "certificate_files_refused", help)?.value(&[], refused.count() as u64)
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Static => "static",
        Origin::Managed => "acme",
        Origin::SelfSigned => "self-signed",
    }
}

fn unix(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// How the certificates of routes stand.
#[derive(Debug)]
pub(crate) struct CertifiedSnapshot(pub(crate) Vec<Certified>);

impl Collector for CertifiedSnapshot {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Attempts in a row that have failed to get an app's certificate";
        let mut failures = gauge(&mut to, "certificate_failures", help)?;
        for one in &self.0 {
            let count = match &one.state {
                CertifierState::Failing { failures, .. } => *failures,
                _ => 0,
            };
            failures.value(&[("app", one.id.as_str())], count.into())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::CertificateStore;
    use super::super::testing::certificate;
    use super::*;
    use crate::Metrics;

    #[test]
    fn every_number_has_a_line() {
        let stats = TlsStats {
            handshakes: 10,
            resumed: 4,
            tls12: 3,
            tls12_resumed: 1,
            failed: 7,
            ..TlsStats::default()
        };
        let store = CertificateStore::new().unwrap();
        let one = certificate(&["a.test", "*.a.test"], 30);
        let until = unix(one.details().not_after);
        store.put(Origin::Managed, "a.test", one);
        store.put(Origin::Managed, "b.test", certificate(&["a.test"], 9));
        store.note_problem(Origin::Static, "/b.pem", "gone".into());
        let served = store.status();
        let failing = Certified {
            id: "a\"b".into(),
            names: Vec::new(),
            not_after: None,
            state: CertifierState::Failing {
                error: "no".into(),
                hint: None,
                failures: 3,
                retry_at: SystemTime::now(),
            },
        };
        let text = Metrics::new("# EOF\n".to_owned())
            .with(TlsSnapshot { stats, served })
            .with(CertifiedSnapshot(vec![failing]))
            .text;
        for line in [
            r#"vela_proxy_tls_handshakes_total{result="ok",version="1.2",resumed="false"} 2"#,
            r#"vela_proxy_tls_handshakes_total{result="ok",version="1.2",resumed="true"} 1"#,
            r#"vela_proxy_tls_handshakes_total{result="ok",version="1.3",resumed="false"} 4"#,
            r#"vela_proxy_tls_handshakes_total{result="ok",version="1.3",resumed="true"} 3"#,
            r#"vela_proxy_tls_handshakes_total{result="failed"} 7"#,
            &format!(
                r#"vela_proxy_certificate_expiry_seconds{{name="*.a.test",origin="acme"}} {until}"#
            ),
            r#"vela_proxy_certificate_failures{app="a\"b"} 3"#,
            "vela_proxy_certificate_files_refused 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    }
}
