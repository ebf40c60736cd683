use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::tls::{CertificateError, DnsName, TlsError};

/// Why there is no certificate yet, or what keeps it from being renewed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// The state on disk cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    State {
        /// What was to be done.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file of `directory_ca` holds no certificate.
    #[error("{} holds no usable certificate authority", path.display())]
    DirectoryCa {
        /// The file.
        path: PathBuf,
    },
    /// The key of the external account is not base64url.
    #[error("the key of the external account is not base64url")]
    ExternalKey,
    /// The authority could not be reached, or what it said was not ACME.
    #[error("cannot talk to the certificate authority")]
    Unreachable {
        /// Why not.
        source: instant_acme::Error,
        /// When it is to be asked again, if it said so.
        retry_after: Option<SystemTime>,
    },
    /// The authority refused.
    #[error("the certificate authority refuses")]
    Refused {
        /// Why.
        source: instant_acme::Error,
        /// When it is to be asked again, if it said so.
        retry_after: Option<SystemTime>,
    },
    /// The authority did not find what it looked for.
    #[error("the certificate authority could not verify {name}: {reason}")]
    NotVerified {
        /// The name that it looked at.
        name: String,
        /// What it found.
        reason: String,
    },
    /// The authority offers no way to verify a name that can be taken here.
    #[error("there is no way to prove to the certificate authority who answers for {name}")]
    NoChallenge {
        /// The name.
        name: String,
    },
    /// The hook for TXT records failed.
    #[error("`dns_hook` failed for {name}: {reason}")]
    DnsHook {
        /// The record.
        name: String,
        /// Its exit status and last words, or why it could not be run.
        reason: String,
    },
    /// The authority takes too long.
    #[error("the certificate authority did not finish in time")]
    TooSlow,
    /// A private key or request cannot be made.
    #[error("cannot make a certificate request")]
    Request {
        /// Why not.
        source: rcgen::Error,
    },
    /// The answer to a challenge cannot be made.
    #[error("cannot answer a challenge")]
    Challenge {
        /// Why not.
        source: TlsError,
    },
    /// What the authority gave is not a certificate for the key.
    #[error("the certificate that was issued is no good")]
    Issued {
        /// Why.
        source: CertificateError,
    },
    /// The certificate is not for all that was asked for.
    #[error("the certificate that was issued is not for {name}")]
    NameMissing {
        /// What is missing.
        name: DnsName,
    },
}

impl AcmeError {
    pub(super) fn state(
        verb: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> AcmeError {
        let path = path.into();
        move |source| AcmeError::State { verb, path, source }
    }

    /// From the client library: tells a refusal of the authority from a failure on the way.
    pub(super) fn of(source: instant_acme::Error, retry_after: Option<SystemTime>) -> AcmeError {
        match source {
            instant_acme::Error::Api(_) => AcmeError::Refused {
                source,
                retry_after,
            },
            instant_acme::Error::Timeout(_) => AcmeError::TooSlow,
            source => AcmeError::Unreachable {
                source,
                retry_after,
            },
        }
    }

    /// The authority's own word for why it refuses: `rateLimited`, say.
    pub(super) fn problem(&self) -> Option<&str> {
        match self {
            AcmeError::Refused {
                source: instant_acme::Error::Api(problem),
                ..
            } => problem.r#type.as_deref()?.rsplit(':').next(),
            _ => None,
        }
    }

    /// How long to wait at least, whatever the number of failures.
    pub(super) fn at_least(&self, now: SystemTime) -> Duration {
        const RATE_LIMITED: Duration = Duration::from_secs(3600);
        let (AcmeError::Refused { retry_after, .. } | AcmeError::Unreachable { retry_after, .. }) =
            self
        else {
            return Duration::ZERO;
        };
        match (retry_after, self.problem()) {
            (Some(at), _) => at.duration_since(now).unwrap_or_default(),
            (None, Some("rateLimited")) => RATE_LIMITED,
            _ => Duration::ZERO,
        }
    }

    /// Whether it is the way to the authority, or the authority itself, that fails, and no rule
    /// of its that was broken.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            AcmeError::Unreachable { .. } | AcmeError::State { .. } | AcmeError::TooSlow => true,
            AcmeError::Refused { .. } => matches!(
                self.problem(),
                Some("serverInternal" | "badNonce" | "accountDoesNotExist")
            ),
            _ => false,
        }
    }

    /// The name without which it would have worked.
    pub(super) fn culprit(&self) -> Option<String> {
        match self {
            AcmeError::NotVerified { name, .. } | AcmeError::NoChallenge { name } => {
                Some(name.clone())
            }
            // One that it never signs for: `localhost`, say.
            AcmeError::Refused {
                source: instant_acme::Error::Api(problem),
                ..
            } => problem.subproblems.iter().find_map(|one| {
                let identifier = one.identifier.as_ref()?;
                Some(identifier.authorized(false).to_string())
            }),
            _ => None,
        }
    }

    /// What the operator can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            AcmeError::NotVerified { name, .. } => {
                return Some(format!(
                    "{name} must lead to this machine, and port 80 or 443 be open to the internet"
                ));
            }
            AcmeError::NoChallenge { name } if name.starts_with("*.") => {
                "a name with a star needs `dns_hook` in [tls] of server.toml"
            }
            AcmeError::Unreachable { .. } => {
                "check that this machine reaches the authority's `directory`"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
