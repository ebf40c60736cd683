use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::ErrorPages;
use crate::entrance::{ACME_CHALLENGES, Entrance};
use crate::record::Record;
use crate::route_table::{Route, RouteTable};

/// Where a request wants to go, and who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    pub(crate) scheme: &'static str,
    /// As the client wrote it, with its port.
    pub(crate) authority: &'a str,
    /// The same normalised.
    pub(crate) host: &'a str,
    /// Path and query, or `*`.
    pub(crate) target: &'a str,
    /// Who asks.
    pub(crate) client: IpAddr,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It is the route's.
    Pass(Arc<Route>),
    /// The client is to ask there.
    Redirect(String),
    /// A certificate authority asks, and this is its answer.
    Challenge(Bytes),
    /// The route's app is not to be reached for now.
    Maintenance(Arc<Route>),
    /// Apps are not to be reached this way.
    Forbidden,
    /// No route is for it.
    Unknown,
}

impl Decision {
    /// Tells `record`, which is the worker's of that number, whose request it is.
    pub(crate) fn on(
        asked: &Destination<'_>,
        routes: &RouteTable,
        entrance: &Entrance,
        record: &mut Record,
        worker: usize,
    ) -> Decision {
        // Whatever is routed: the host's only app may have a path that this is not below.
        if let Some(text) = entrance.challenge(asked.target) {
            return Decision::Challenge(text);
        }
        let Some(route) = routes.find(asked.host, asked.target) else {
            return Decision::Unknown;
        };
        record.routed(&route, worker);
        let options = &route.options;
        let canonical = options.canonical.as_ref().map(|host| host.as_str());
        let host = canonical.unwrap_or(asked.host);
        // What is asked of the server as a whole, or by a certificate authority, stays where it is.
        if asked.target.starts_with('/') && !asked.target.starts_with(ACME_CHALLENGES) {
            // Who came by HTTPS to a balancer is where it belongs.
            let https_port = entrance.https_port(host);
            if let Some(port) = https_port.filter(|_| asked.scheme != "https") {
                return Decision::Redirect(asked.over_https(host, port));
            }
            if host != asked.host {
                return Decision::Redirect(asked.at(host));
            }
        }
        if entrance.is_closed {
            return Decision::Forbidden;
        }
        match &options.maintenance {
            Some(one)
                if !one
                    .allow
                    .iter()
                    .any(|network| network.contains(asked.client)) =>
            {
                Decision::Maintenance(route)
            }
            _ => Decision::Pass(route),
        }
    }

    /// The pages of the route, if there is one.
    pub(crate) fn pages(&self) -> Option<&ErrorPages> {
        match self {
            Decision::Pass(route) | Decision::Maintenance(route) => {
                route.options.error_pages.as_deref()
            }
            Decision::Redirect(_)
            | Decision::Challenge(_)
            | Decision::Forbidden
            | Decision::Unknown => None,
        }
    }
}

impl Destination<'_> {
    /// The same at another host, on the same port.
    fn at(&self, host: &str) -> String {
        let port = match self.authority.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => "",
        };
        let colon = if port.is_empty() { "" } else { ":" };
        format!("{}://{host}{colon}{port}{}", self.scheme, self.target)
    }

    fn over_https(&self, host: &str, port: u16) -> String {
        let port = match port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        format!("https://{host}{port}{}", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_changes_the_host_alone() {
        for (authority, target, location) in [
            ("www.a.test", "/x?y=%2F", "http://a.test/x?y=%2F"),
            ("www.a.test:8080", "/", "http://a.test:8080/"),
            ("www.a.test:", "/", "http://a.test/"),
            ("[::1]", "/", "http://a.test/"),
            ("[::1]:81", "/", "http://a.test:81/"),
        ] {
            let asked = Destination {
                scheme: "http",
                authority,
                host: "unused",
                target,
                client: [192, 0, 2, 1].into(),
            };
            assert_eq!(asked.at("a.test"), location);
            let secure = format!("https://a.test{target}");
            assert_eq!(asked.over_https("a.test", 443), secure);
        }
    }
}
