use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY};
use hyper::{Response, StatusCode, Uri};

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
    pub(crate) hsts: Option<HeaderValue>,
}

/// To HTTPS.
#[derive(Debug)]
pub(crate) struct Redirect {
    /// Hosts that it has no certificate for are served as they are.
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

    /// The answer to a request that goes to no upstream. The host is normalised.
    pub(crate) fn answer(
        &self,
        host: &str,
        target: &Uri,
        has_route: impl FnOnce() -> bool,
    ) -> Option<Response<Bytes>> {
        let target = target.path_and_query()?.as_str();
        if let (Some(challenges), Some(token)) =
            (&self.challenges, target.strip_prefix(ACME_CHALLENGES))
        {
            let text = challenges.find(token)?;
            return has_route().then(|| Response::new(text));
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
        let location = HeaderValue::try_from(format!("https://{host}{port}{target}")).ok()?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, location);
        Some(response)
    }

    /// Completes the headers of a response for a normalised host.
    pub(crate) fn complete(&self, host: &str, headers: &mut HeaderMap) {
        let (Some(tls), Some(value)) = (&self.tls, &self.hsts) else {
            return;
        };
        if !headers.contains_key(STRICT_TRANSPORT_SECURITY) && tls.store().covers(host) {
            headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
        }
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
        let location = |entrance: &Entrance, host: &str, target: &str, routed: bool| {
            let target = target.parse().unwrap();
            let response = entrance.answer(host, &target, || routed)?;
            assert_eq!(response.status(), 308);
            Some(response.headers()[LOCATION].to_str().unwrap().to_owned())
        };
        let is = |location: Option<String>, expected: &str| {
            assert_eq!(location.as_deref(), Some(expected));
        };
        is(
            location(&entrance, "a.test", "/x/y?z=1&w", true),
            "https://a.test/x/y?z=1&w",
        );
        is(
            location(&entrance, "a.test", "http://a.test:80/x", true),
            "https://a.test/x",
        );
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
        is(
            location(&entrance, "a.test", "/", true),
            "https://a.test:8443/",
        );
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
            let target = format!("{ACME_CHALLENGES}{path}").parse().unwrap();
            let answer = entrance.answer("a.test", &target, || routed)?;
            assert_eq!(answer.status(), 200);
            Some(answer.into_body())
        };
        assert_eq!(answer("token", true).unwrap(), "token.thumbprint");
        assert_eq!(answer("token", false), None);
        // The app's own, maybe.
        assert_eq!(answer("other", true), None);
        challenges.remove("token");
        assert_eq!(answer("token", true), None);
    }

    #[test]
    fn hsts_is_for_certified_hosts_and_the_apps_own_stays() {
        let entrance = Entrance {
            tls: Some(tls()),
            hsts: Some(HeaderValue::from_static("max-age=60")),
            ..Entrance::default()
        };
        let completed = |host: &str, own: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers
                .extend(own.map(|own| (STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(own))));
            entrance.complete(host, &mut headers);
            headers.remove(STRICT_TRANSPORT_SECURITY)
        };
        assert_eq!(completed("a.test", None).unwrap(), "max-age=60");
        assert_eq!(completed("a.test", Some("max-age=0")).unwrap(), "max-age=0");
        assert_eq!(completed("b.test", None), None);
    }
}
