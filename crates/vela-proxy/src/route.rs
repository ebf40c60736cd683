use std::fmt;

use crate::{Address, HostPattern, PathPrefix, RouteOptions};

/// The name of a route, given by the caller: an app's name, say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(String);

impl RouteId {
    /// Names a route.
    pub fn new(id: impl Into<String>) -> RouteId {
        RouteId(id.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for RouteId {
    fn from(id: &str) -> RouteId {
        RouteId::new(id)
    }
}

impl From<String> for RouteId {
    fn from(id: String) -> RouteId {
        RouteId(id)
    }
}

impl AsRef<str> for RouteId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// One place where a route's requests can go: an instance of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it listens.
    pub address: Address,
    /// Its share of the route's requests, relative to the other upstreams' weights: how often it is
    /// drawn, and how much in flight counts as little for it. An upstream with weight 0 gets
    /// requests only when no other one accepts a connection.
    pub weight: u16,
    /// What observers know it by: an instance id, say. Not used to route.
    pub tag: String,
    /// For a Unix socket: the user that must listen on it, where that matters. Who may write where
    /// the socket is could make a link there instead, and lead requests to a socket that the proxy
    /// may open and they may not. What another user listens on counts as unreachable.
    pub owner: Option<u32>,
}

impl Upstream {
    /// An upstream of weight 1, tagged with its address.
    pub fn new(address: impl Into<Address>) -> Upstream {
        let address = address.into();
        Upstream {
            weight: 1,
            tag: address.to_string(),
            owner: None,
            address,
        }
    }

    /// The same upstream, whose Unix socket must be this user's.
    #[must_use]
    pub fn owned_by(self, uid: u32) -> Upstream {
        Upstream {
            owner: Some(uid),
            ..self
        }
    }

    /// The same upstream under another tag.
    #[must_use]
    pub fn tagged(self, tag: impl Into<String>) -> Upstream {
        Upstream {
            tag: tag.into(),
            ..self
        }
    }
}

/// What a route is to be: which requests go to which upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The route that is made or replaced.
    pub id: RouteId,
    /// All hosts of the route. A host that the route had and that is not listed is given up.
    pub hosts: Vec<HostPattern>,
    /// Of requests for the hosts, those with a path under it. Where several routes have the same
    /// host, the longest one counts.
    pub path: PathPrefix,
    /// Where requests go. With none, they are answered `503 Service Unavailable`.
    pub upstreams: Vec<Upstream>,
    /// What else is done with its requests.
    pub options: RouteOptions,
}

impl RouteSpec {
    /// A route for all paths of the hosts, with no options.
    pub fn new(
        id: impl Into<RouteId>,
        hosts: Vec<HostPattern>,
        upstreams: Vec<Upstream>,
    ) -> RouteSpec {
        RouteSpec {
            id: id.into(),
            hosts,
            path: PathPrefix::default(),
            upstreams,
            options: RouteOptions::default(),
        }
    }
}
