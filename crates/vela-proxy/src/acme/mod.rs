//! Certificates that take care of themselves: ordered from an authority that speaks ACME (RFC 8555)
//! when a route is made, renewed in time, and kept over restarts.
//!
//! [`Acme`] is a [`Certifier`]: it is told which hosts there are, and sees to the rest. It puts what
//! it gets into a [`CertificateStore`](crate::tls::CertificateStore), and answers `tls-alpn-01`
//! there; `http-01` is answered by HTTP listeners, `dns-01`, for names with a star, by a command of
//! the operator's. [`CertifyingRouter`] tells it of each route by itself.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use std::sync::Arc;
//! use vela_proxy::acme::{Acme, AcmeSettings, Certifier, CertifyingRouter};
//! use vela_proxy::tls::{CertificateStore, Tls, TlsSettings};
//! use vela_proxy::{Listener, Proxy, ProxyConfig, RouteSpec, Router, Upstream};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(CertificateStore::new()?);
//! let tls = Tls::new(Arc::clone(&store), TlsSettings::default())?;
//! let acme = Arc::new(Acme::open(
//!     AcmeSettings {
//!         contact: Some("me@example.com".into()),
//!         ..AcmeSettings::new("/var/lib/shop/tls")
//!     },
//!     store,
//! )?);
//! let proxy = Proxy::new(ProxyConfig::default());
//! let serving = proxy.serve([
//!     Listener::http(TcpListener::bind("0.0.0.0:80")?)
//!         .answering(acme.http_challenges())
//!         .redirecting(tls.clone(), 443),
//!     Listener::https(TcpListener::bind("0.0.0.0:443")?, tls),
//! ])?;
//! let router = CertifyingRouter::new(proxy, acme.clone());
//! router
//!     .apply(RouteSpec::new(
//!         "shop",
//!         vec!["shop.example.com".parse()?, "www.shop.example.com".parse()?],
//!         vec![Upstream::new(std::net::SocketAddr::from(([127, 0, 0, 1], 10_001)))],
//!     ))
//!     .await?;
//! // One certificate for both hosts is under way.
//! println!("{:?}", acme.settled(&"shop".into()).await);
//! # drop(serving);
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - All hosts of a route are in one certificate, and nothing else is ever asked for; routes whose
//!   first host is the same share it. Hosts that
//!   have a static certificate are left out. One that cannot be verified is left out too, until it
//!   can be: the others do not wait for it.
//! - The last good certificate serves for as long as it is valid, whatever fails.
//! - Each step is on disk before the next one begins: the key before the order, the order before
//!   its challenges, the certificate with its key as one file before it is served. After a crash
//!   the same order goes on, and nothing is ordered twice. Only an account that was made in the
//!   very moment of a crash is made again.
//! - Renewal is when the authority suggests (RFC 9773), else with a third of the life left. Failed
//!   attempts are repeated more and more slowly, never before the authority allows it, and a
//!   restart changes nothing about that.

mod acme_certifier;
mod answers;
mod attempt;
mod certifier;
mod certifying_router;
pub(crate) mod courier;
mod disk;
mod dns_hook;
mod error;
mod event;
mod http_challenges;
mod keeper;
mod schedule;
mod settings;
mod shared;

pub use acme_certifier::Acme;
pub use certifier::{Certified, Certifier, CertifierState};
pub use certifying_router::CertifyingRouter;
pub use error::AcmeError;
pub use event::{AcmeEvent, Challenge, Observer};
pub use http_challenges::HttpChallenges;
pub use settings::{AcmeSettings, ExternalAccount, Pace};
