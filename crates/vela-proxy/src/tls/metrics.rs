use std::fmt::Write;
use std::time::SystemTime;

use super::{CertificateStatus, Origin, TlsStats};
use crate::acme::{Certified, CertifierState};

/// Handshakes, and how certificates stand, in Prometheus' text format. The names are of the
/// certificates that are served; a route whose certificate is obtained or fails has its own line.
pub fn metrics_text(
    stats: &TlsStats,
    served: &[CertificateStatus],
    certified: &[Certified],
) -> String {
    let mut text = String::new();
    head(
        &mut text,
        "vela_proxy_tls_handshakes_total",
        "counter",
        "TLS handshakes.",
    );
    let old = stats.tls12 - stats.tls12_resumed.min(stats.tls12);
    let new = stats.handshakes.saturating_sub(stats.tls12);
    let new_resumed = stats.resumed.saturating_sub(stats.tls12_resumed);
    for (labels, value) in [
        (r#"result="ok",version="1.2",resumed="false""#, old),
        (
            r#"result="ok",version="1.2",resumed="true""#,
            stats.tls12_resumed,
        ),
        (
            r#"result="ok",version="1.3",resumed="false""#,
            new.saturating_sub(new_resumed),
        ),
        (r#"result="ok",version="1.3",resumed="true""#, new_resumed),
        (r#"result="failed""#, stats.failed),
        (r#"result="timed_out""#, stats.timed_out),
        (r#"result="challenge""#, stats.challenges),
    ] {
        line(&mut text, "vela_proxy_tls_handshakes_total", labels, value);
    }
    let expiry = "vela_proxy_certificate_expiry_seconds";
    let what = "When a certificate that is served expires, as Unix time.";
    head(&mut text, expiry, "gauge", what);
    for one in served {
        let Some(details) = &one.details else {
            continue;
        };
        for name in &details.names {
            // A DNS name has nothing in it to be escaped.
            let labels = format!(r#"name="{name}",origin="{}""#, origin(one.origin));
            line(&mut text, expiry, &labels, unix(details.not_after));
        }
    }
    let failures = "vela_proxy_certificate_failures";
    let what = "Attempts in a row that have failed to get an app's certificate.";
    head(&mut text, failures, "gauge", what);
    for one in certified {
        let count = match &one.state {
            CertifierState::Failing { failures, .. } => *failures,
            _ => 0,
        };
        let labels = format!(r#"app="{}""#, escaped(one.id.as_str()));
        line(&mut text, failures, &labels, count.into());
    }
    let refused = "vela_proxy_certificate_files_refused";
    let what = "Pairs of certificate files that are refused as they are now.";
    head(&mut text, refused, "gauge", what);
    let count = served.iter().filter(|one| one.problem.is_some()).count();
    line(&mut text, refused, "", count as u64);
    text
}

fn head(text: &mut String, name: &str, kind: &str, what: &str) {
    writeln!(text, "# HELP {name} {what}\n# TYPE {name} {kind}").expect("a string takes it");
}

fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    let labels = match labels {
        "" => String::new(),
        labels => format!("{{{labels}}}"),
    };
    writeln!(text, "{name}{labels} {value}").expect("a string takes it");
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

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::CertificateStore;
    use super::super::testing::certificate;
    use super::*;

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
        store.note_problem(Origin::Static, "/b.pem", "gone".into());
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
        let text = metrics_text(&stats, &store.status(), &[failing]);
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
    }
}
