use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptography that all of the crate's TLS uses. Always named, so that it does not depend on
/// what else a program links.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

/// Encrypts session tickets, with keys that change every six hours and are never written down.
pub(super) fn ticketer() -> Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    #[cfg(feature = "aws-lc")]
    return rustls::crypto::aws_lc_rs::Ticketer::new();
    #[cfg(not(feature = "aws-lc"))]
    rustls::crypto::ring::Ticketer::new()
}
