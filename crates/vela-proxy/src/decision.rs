use std::net::IpAddr;
use std::sync::Arc;

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
    /// The route's app is not to be reached for now.
    Maintenance(Arc<Route>),
    /// No route is for it.
    Unknown,
}

impl Decision {
    /// Tells `record`, which is the worker's of that number, whose request it is.
    pub(crate) fn on(
        asked: &Destination<'_>,
        routes: &RouteTable,
        record: &mut Record,
        worker: usize,
    ) -> Decision {
        let Some(route) = routes.find(asked.host, asked.target) else {
            return Decision::Unknown;
        };
        record.routed(&route, worker);
        let options = &route.options;
        if let Some(canonical) = &options.canonical
            && canonical.as_str() != asked.host
        {
            return Decision::Redirect(asked.at(canonical.as_str()));
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
}

impl Destination<'_> {
    /// The same at another host, on the same port.
    fn at(&self, host: &str) -> String {
        let port = match self.authority.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => "",
        };
        let colon = if port.is_empty() { "" } else { ":" };
        let path = if self.target == "*" { "" } else { self.target };
        format!("{}://{host}{colon}{port}{path}", self.scheme)
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
            ("[::1]:81", "*", "http://a.test:81"),
        ] {
            let asked = Destination {
                scheme: "http",
                authority,
                host: "unused",
                target,
                client: [192, 0, 2, 1].into(),
            };
            assert_eq!(asked.at("a.test"), location);
        }
    }
}
