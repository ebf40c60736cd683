use crate::{Address, RouteId};

/// An upstream of a route as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamStatus {
    /// The route that sends requests to it.
    pub route: RouteId,
    /// What observers know it by.
    pub tag: String,
    /// Where it listens.
    pub address: Address,
    /// Requests and streams in flight. Those that began before the route was last applied are not
    /// among them.
    pub in_flight: usize,
    /// It refuses connections, or has lost several requests in a row: it gets none while another
    /// upstream of the route can. Never so where it is the only one.
    pub is_ejected: bool,
}
