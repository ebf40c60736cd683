use std::time::SystemTime;

use super::AcmeError;
use crate::tls::DnsName;

/// What has happened on the way to a certificate. Each is told when what it says is on disk.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcmeEvent<'a> {
    /// There is an account with the authority now.
    AccountCreated,
    /// The authority has taken an order.
    OrderPlaced {
        /// What for.
        names: &'a [DnsName],
    },
    /// The answer to a challenge is there, and the authority is about to be told.
    ChallengeAnswered {
        /// The name that it is about.
        name: &'a str,
        /// How it is answered.
        challenge: Challenge,
    },
    /// The authority has verified all names.
    NamesVerified {
        /// All of them.
        names: &'a [DnsName],
    },
    /// The authority has the request for a certificate.
    CertificateRequested {
        /// What for.
        names: &'a [DnsName],
    },
    /// The certificate has been downloaded. It is not on disk yet.
    CertificateDownloaded {
        /// What for.
        names: &'a [DnsName],
    },
    /// The certificate is served.
    CertificateInstalled {
        /// What for.
        names: &'a [DnsName],
        /// Until when it is valid.
        not_after: SystemTime,
    },
    /// It did not work this time.
    AttemptFailed {
        /// What for.
        names: &'a [DnsName],
        /// Why.
        error: &'a AcmeError,
        /// When it is tried again.
        retry_at: SystemTime,
    },
}

/// How an authority verifies who answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Challenge {
    /// A text at a path, over HTTP.
    Http01,
    /// A certificate in a TLS handshake.
    TlsAlpn01,
    /// A TXT record.
    Dns01,
}

/// Is told of everything, at once, on the task that does it. Keep it short.
pub type Observer = dyn Fn(&AcmeEvent<'_>) + Send + Sync;
