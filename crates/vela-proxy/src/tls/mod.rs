//! TLS for servers: certificates that are chosen by name and change while connections come.
//!
//! A [`CertificateStore`] holds what is served: certificates from files, which
//! [`FileCertificates`] loads and reloads, those that something obtains, and a self-signed one for
//! whoever asks for a name that has none. A [`Tls`] shakes hands by it.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use vela_proxy::tls::{CertificateFiles, CertificateStore, FileCertificates, Tls, TlsSettings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(CertificateStore::new()?);
//! let files = FileCertificates::load(
//!     Arc::clone(&store),
//!     vec![CertificateFiles {
//!         certificate: "/etc/ssl/shop.pem".into(),
//!         key: "/etc/ssl/shop.key".into(),
//!     }],
//! );
//! for status in files.status() {
//!     if let Some(problem) = status.problem {
//!         println!("{problem}");
//!     }
//! }
//! tokio::spawn(Arc::new(files).watch(Duration::from_secs(5)));
//! let tls = Tls::new(store, TlsSettings::default())?;
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let serving = tokio::spawn(async move {
//!     let (socket, _) = listener.accept().await?;
//!     match tls.accept(socket).await {
//!         Ok(Some(stream)) => { /* read requests, write responses */ }
//!         Ok(None) => { /* a certificate authority has checked a name */ }
//!         Err(error) => { /* the client has been told */ }
//!     }
//!     std::io::Result::Ok(())
//! });
//! # serving.abort();
//! # Ok(())
//! # }
//! ```
//!
//! TLS 1.2 and 1.3 with rustls' choice of strong ciphers; no early data. Sessions are resumed by
//! tickets, whose keys live in memory and change every six hours. The cryptography is `ring`'s, or
//! with the feature `aws-lc` that of AWS-LC, which has the post-quantum key exchange.

mod certificate;
mod client_ca;
mod dns_name;
mod error;
mod files;
mod metrics;
mod provider;
mod self_signed;
mod server;
mod stats;
mod status;
mod store;
#[cfg(test)]
pub(crate) mod testing;

pub use certificate::{Certificate, CertificateError, Details};
pub use dns_name::{DnsName, InvalidDnsName};
pub use error::TlsError;
pub use files::{CertificateFiles, FileCertificates, FileError, FileStatus};
pub use server::{HandshakeError, Tls, TlsSettings};
pub use stats::TlsStats;
pub use status::{CertificateStatus, Origin};
pub use store::CertificateStore;

pub(crate) use files::with_causes;
pub(crate) use metrics::{CertifiedSnapshot, TlsSnapshot};
pub(crate) use provider::provider;
