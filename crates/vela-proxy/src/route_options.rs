use std::sync::Arc;
use std::time::Duration;

use crate::{ErrorPages, Host, Network};

/// How a route's requests are treated. By default they are passed on as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// The route's path prefix is taken off the path that the upstream sees, and told to it in
    /// `X-Forwarded-Prefix`.
    pub strip_path: bool,
    /// The host that requests for the route's other hosts are sent to, by a
    /// `308 Permanent Redirect` that keeps method, path and query.
    pub canonical: Option<Host>,
    /// The longest request body in bytes, where that is less than the proxy's own limit. Then 413.
    pub max_body: Option<u64>,
    /// For an upstream to begin its response, instead of
    /// [`Timeouts::response`](crate::Timeouts::response).
    pub response_timeout: Option<Duration>,
    /// For an upstream to send the next piece of a response's body, instead of
    /// [`Timeouts::response_body`](crate::Timeouts::response_body).
    pub response_body_timeout: Option<Duration>,
    /// Requests are answered 503 for now.
    pub maintenance: Option<Maintenance>,
    /// What is answered where the proxy answers by itself, before the proxy's own pages.
    pub error_pages: Option<Arc<ErrorPages>>,
}

/// A route that answers 503, except to some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// What is told to the client.
    pub message: Option<String>,
    /// Clients that are served nonetheless: those who look after the app.
    pub allow: Vec<Network>,
}
