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
    /// The value of `Strict-Transport-Security`.
    pub(crate) hsts: Option<String>,
}

/// To HTTPS.
#[derive(Debug)]
pub(crate) struct Redirect {
    /// Hosts that it has no certificate for are served as they are.
    pub(crate) tls: Tls,
    pub(crate) port: u16,
}

/// The proxy's own answer to a request that goes to no upstream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200 with this text, for a certificate authority.
    Challenge(Bytes),
    /// 308 to this URL.
    Redirect(String),
}

impl Entrance {
    /// The scheme that upstreams are told.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Whether any request has its answer here.
    pub(crate) fn may_answer(&self) -> bool {
        self.challenges.is_some() || self.redirect.is_some()
    }

    /// The answer to a request, if it is not for an upstream. The host is normalised; the target is
    /// the request's path and query, which have no characters that a header must not have.
    pub(crate) fn answer(
        &self,
        host: &str,
        target: &str,
        has_route: impl FnOnce() -> bool,
    ) -> Option<Answer> {
        if let (Some(challenges), Some(token)) =
            (&self.challenges, target.strip_prefix(ACME_CHALLENGES))
        {
            let text = challenges.find(token)?;
            return has_route().then_some(Answer::Challenge(text));
        }
        let Redirect { tls, port } = self.redirect.as_ref()?;
        let stays = !target.starts_with('/') || target.starts_with(ACME_CHALLENGES);
        if stays || !tls.store().covers(host) || !has_route() {
            return None;
        }
        let port = match port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        Some(Answer::Redirect(format!("https://{host}{port}{target}")))
    }

    /// The value of `Strict-Transport-Security` in responses for a normalised host that have none
    /// of their own.
    pub(crate) fn hsts(&self, host: &str) -> Option<&str> {
        let (Some(tls), Some(value)) = (&self.tls, &self.hsts) else {
            return None;
        };
        tls.store().covers(host).then_some(value)
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
        Tls::new(store, TlsSettings::default()).unwrap()
    }

    #[test]
    fn only_what_is_ours_and_certified_is_redirected() {
        let mut entrance = Entrance {
            redirect: Some(Redirect {
                tls: tls(),
                port: 443,
            }),
            ..Entrance::default()
        };
        let location = |entrance: &Entrance, host: &str, target: &str, routed: bool| match entrance
            .answer(host, target, || routed)?
        {
            Answer::Redirect(location) => Some(location),
            Answer::Challenge(_) => panic!("there are none"),
        };
        let found = location(&entrance, "a.test", "/x/y?z=1&w", true);
        assert_eq!(found.as_deref(), Some("https://a.test/x/y?z=1&w"));
        for (host, target, routed) in [
            ("a.test", "/", false),
            ("b.test", "/", true),
            ("old.test", "/", true),
            ("a.test", "/.well-known/acme-challenge/x", true),
            ("a.test", "*", true),
        ] {
            assert_eq!(location(&entrance, host, target, routed), None);
        }
        entrance.redirect.as_mut().unwrap().port = 8443;
        let found = location(&entrance, "a.test", "/", true);
        assert_eq!(found.as_deref(), Some("https://a.test:8443/"));
    }

    #[test]
    fn challenges_are_answered_for_hosts_that_are_ours() {
        let challenges = HttpChallenges::default();
        challenges.put("token", "token.thumbprint");
        let entrance = Entrance {
            challenges: Some(challenges.clone()),
            redirect: Some(Redirect {
                tls: tls(),
                port: 443,
            }),
            ..Entrance::default()
        };
        let answer = |path: &str, routed: bool| {
            entrance.answer("a.test", &format!("{ACME_CHALLENGES}{path}"), || routed)
        };
        let text = Bytes::from_static(b"token.thumbprint");
        assert_eq!(answer("token", true), Some(Answer::Challenge(text)));
        assert_eq!(answer("token", false), None);
        // The app's own, maybe.
        assert_eq!(answer("other", true), None);
        challenges.remove("token");
        assert_eq!(answer("token", true), None);
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
        entrance.tls = None;
        assert_eq!(entrance.hsts("a.test"), None, "browsers would ignore it");
    }
}
