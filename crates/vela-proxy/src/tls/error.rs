use std::io;
use std::path::PathBuf;

use rustls::server::VerifierBuilderError;

use super::CertificateError;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The authority of clients' certificates cannot be used.
    #[error("{} holds no usable certificate authority", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Option<VerifierBuilderError>,
    },
    /// The cryptography refuses.
    #[error("cannot set up TLS")]
    Crypto {
        /// Why.
        source: rustls::Error,
    },
    /// A self-signed certificate cannot be made.
    #[error("cannot make a self-signed certificate")]
    SelfSigned {
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate cannot be used.
    #[error("cannot use a certificate")]
    Certificate {
        /// Why.
        source: CertificateError,
    },
}
