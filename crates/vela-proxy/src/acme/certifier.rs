use std::fmt::Debug;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::tls::DnsName;
use crate::{HostPattern, RouteId};

/// Sees to it that the hosts of routes have certificates. A deployer tells it what it has
/// deployed; how the certificates are had is its own business.
#[async_trait]
pub trait Certifier: Debug + Send + Sync {
    /// From now on these are all the hosts of a route. Returns at once; idempotent; each call
    /// replaces the one before. Addresses are left out: they get no certificate. A wildcard is one
    /// name of the certificate.
    fn want(&self, id: &RouteId, hosts: &[HostPattern]);

    /// The route has gone. Its certificate is not renewed any more. Idempotent.
    fn forget(&self, id: &RouteId);

    /// Waits until the first attempt for what the route wants now has ended, well or badly, and
    /// gives how it stands; none for a route that it knows nothing of. Cancel safe.
    async fn settled(&self, id: &RouteId) -> Option<Certified>;

    /// Asks for a new certificate now, whatever is left of the old one's life and of a pause after
    /// failures, waits until that attempt has ended, well or badly, and gives how the route stands
    /// then; none for a route that it knows nothing of, or that is forgotten meanwhile. Cancel
    /// safe: the attempt goes on.
    async fn renew(&self, id: &RouteId) -> Option<Certified>;

    /// How all routes stand. Never waits.
    fn status(&self) -> Vec<Certified>;

    /// How a route stands, each time an attempt for it has ended from now on. Who reads too slowly misses some. Ends
    /// with the certifier.
    fn watch(&self) -> BoxStream<'static, Certified>;
}

/// How a route stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certified {
    /// The route.
    pub id: RouteId,
    /// What it wants a certificate for.
    pub names: Vec<DnsName>,
    /// Until when the certificate that it has is valid, if there is one that was obtained for it.
    pub not_after: Option<SystemTime>,
    /// What is being done about it.
    pub state: CertifierState,
}

/// What is being done about a route's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertifierState {
    /// Nothing: there are static ones for all its names, or it has no names.
    NotNeeded,
    /// The first attempt is under way.
    Obtaining,
    /// Nothing until it is renewed.
    Valid {
        /// When.
        renewal_at: SystemTime,
    },
    /// It failed, and is tried again.
    Failing {
        /// Why, with all causes.
        error: String,
        /// What the operator can do.
        hint: Option<String>,
        /// How often in a row.
        failures: u32,
        /// When it is tried again.
        retry_at: SystemTime,
    },
}
