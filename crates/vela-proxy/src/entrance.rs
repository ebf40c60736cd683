use bytes::Bytes;

use crate::acme::HttpChallenges;
use crate::tls::Tls;

/// What a listener does with requests before and after they are routed.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    /// Connections shake hands by it first.
    pub(crate) tls: Option<Tls>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) challenges: Option<HttpChallenges>,
    /// It leads to no app.
    pub(crate) is_closed: bool,
    /// The value of `Strict-Transport-Security`.
    pub(crate) hsts: Option<String>,
}

/// To HTTPS.
#[derive(Debug)]
pub(crate) struct Redirect {
    /// Hosts that it has no certificate for that clients may trust are served as they are.
    pub(crate) tls: Tls,
    pub(crate) port: u16,
}

impl Entrance {
    /// The scheme that upstreams are told.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// What a certificate authority is to find at a request's target.
    pub(crate) fn challenge(&self, target: &str) -> Option<Bytes> {
        let challenges = self.challenges.as_ref()?;
        challenges.find(target.strip_prefix(ACME_CHALLENGES)?)
    }

    /// The port of HTTPS, if requests for a normalised host belong there.
    pub(crate) fn https_port(&self, host: &str) -> Option<u16> {
        let Redirect { tls, port } = self.redirect.as_ref()?;
        tls.store().vouches_for(host).then_some(*port)
    }

    /// The value of `Strict-Transport-Security` in responses for a normalised host that have none
    /// of their own.
    pub(crate) fn hsts(&self, host: &str) -> Option<&str> {
        let (Some(tls), Some(value)) = (&self.tls, &self.hsts) else {
            return None;
        };
        tls.store().vouches_for(host).then_some(value)
    }
}

/// Where certificate authorities look for the answers to their challenges.
pub(crate) const ACME_CHALLENGES: &str = "/.well-known/acme-challenge/";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tls::testing::certificate;
    use crate::tls::{CertificateStore, Origin, TlsSettings};

    fn tls() -> Tls {
        let store = Arc::new(CertificateStore::new().unwrap());
        store.put(Origin::Managed, "a", certificate(&["a.test"], 30));
        store.put(Origin::Managed, "old", certificate(&["old.test"], -1));
        let staging = certificate(&["staging.test"], 30).for_tests();
        store.put(Origin::Managed, "staging", staging);
        Tls::new(store, TlsSettings::default()).unwrap()
    }

    #[test]
    fn what_is_certified_belongs_to_https() {
        let entrance = Entrance {
            redirect: Some(Redirect {
                tls: tls(),
                port: 8443,
            }),
            ..Entrance::default()
        };
        for (host, port) in [
            ("a.test", Some(8443)),
            ("b.test", None),
            ("old.test", None),
            ("staging.test", None),
        ] {
            assert_eq!(entrance.https_port(host), port, "{host}");
        }
        assert_eq!(Entrance::default().https_port("a.test"), None);
    }

    #[test]
    fn challenges_are_found_by_their_token() {
        let challenges = HttpChallenges::default();
        challenges.put("token", "token.thumbprint");
        let entrance = Entrance {
            challenges: Some(challenges.clone()),
            ..Entrance::default()
        };
        let answer = |path: &str| entrance.challenge(&format!("{ACME_CHALLENGES}{path}"));
        let text = Bytes::from_static(b"token.thumbprint");
        assert_eq!(answer("token"), Some(text));
        // The app's own, maybe.
        assert_eq!(answer("other"), None);
        challenges.remove("token");
        assert_eq!(answer("token"), None);
    }

    #[test]
    fn hsts_is_for_certified_hosts() {
        let mut entrance = Entrance {
            tls: Some(tls()),
            hsts: Some("max-age=60".to_owned()),
            ..Entrance::default()
        };
        assert_eq!(entrance.hsts("a.test"), Some("max-age=60"));
        assert_eq!(entrance.hsts("b.test"), None);
        assert_eq!(entrance.hsts("staging.test"), None);
        entrance.tls = None;
        assert_eq!(entrance.hsts("a.test"), None, "browsers would ignore it");
    }
}
