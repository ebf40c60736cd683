use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::tls::{CertificateError, DnsName, TlsError, with_causes};

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
    /// Some of the names cannot be proved, each for a reason of its own.
    #[error("{}", in_one_line(failed))]
    Names {
        /// The names, each with what is the matter.
        failed: Vec<(String, AcmeError)>,
    },
    /// The authority takes too long.
    #[error("the certificate authority did not finish in time")]
    TooSlow {
        /// When it is to be asked again, if it said so.
        retry_after: Option<SystemTime>,
    },
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
            instant_acme::Error::Timeout(next) => AcmeError::TooSlow {
                retry_after: next.map(|at| SystemTime::now() + (at - Instant::now())),
            },
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
        let retry_after = match self {
            AcmeError::Refused { retry_after, .. }
            | AcmeError::Unreachable { retry_after, .. }
            | AcmeError::TooSlow { retry_after } => retry_after,
            AcmeError::Names { failed } => {
                let least = failed.iter().map(|(_, error)| error.at_least(now)).max();
                return least.unwrap_or_default();
            }
            _ => return Duration::ZERO,
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
            AcmeError::Unreachable { .. } | AcmeError::State { .. } | AcmeError::TooSlow { .. } => {
                true
            }
            AcmeError::Refused { .. } => matches!(
                self.problem(),
                Some("serverInternal" | "badNonce" | "accountDoesNotExist")
            ),
            _ => false,
        }
    }

    /// Whether the order that it happened to will not get any better.
    pub(super) fn spoils_order(&self) -> bool {
        match self {
            AcmeError::DnsHook { .. } => false,
            AcmeError::Names { failed } => failed.iter().any(|(_, error)| error.spoils_order()),
            error => !error.is_passing() && error.problem() != Some("rateLimited"),
        }
    }

    /// Whether the authority knows nothing of what it was asked for: it has expired, or is another
    /// account's.
    pub(super) fn is_unknown(&self) -> bool {
        let AcmeError::Refused {
            source: instant_acme::Error::Api(problem),
            ..
        } = self
        else {
            return false;
        };
        let is_unknown = matches!(
            self.problem(),
            Some("malformed" | "unauthorized" | "accountDoesNotExist")
        );
        is_unknown || problem.status == Some(404)
    }

    /// The names without which it would have worked.
    pub(super) fn culprits(&self) -> Vec<String> {
        match self {
            AcmeError::NotVerified { name, .. } | AcmeError::NoChallenge { name } => {
                vec![name.clone()]
            }
            AcmeError::Names { failed } => failed.iter().map(|(name, _)| name.clone()).collect(),
            // Those that it never signs for: `localhost`, say.
            AcmeError::Refused {
                source: instant_acme::Error::Api(problem),
                ..
            } => {
                let named = problem.subproblems.iter();
                named
                    .filter_map(|one| one.identifier.as_ref())
                    .map(|one| one.authorized(false).to_string())
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Tells of further names, where both are about names.
    pub(super) fn add(&mut self, further: AcmeError) {
        if let (AcmeError::Names { failed }, AcmeError::Names { failed: further }) = (self, further)
        {
            failed.extend(further);
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
            AcmeError::Names { failed } => {
                return failed.iter().find_map(|(_, error)| error.hint());
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

/// The first ones with their reasons, the others by name.
fn in_one_line(failed: &[(String, AcmeError)]) -> String {
    const IN_FULL: usize = 4;
    let full = failed.iter().take(IN_FULL);
    let full: Vec<String> = full.map(|(_, error)| with_causes(error)).collect();
    let full = full.join("; ");
    let others = failed.iter().skip(IN_FULL).map(|(name, _)| name.as_str());
    let others: Vec<&str> = others.collect();
    match others.is_empty() {
        true => full,
        false => format!("{full}; nor is there one for {}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_slow_may_say_for_how_long() {
        let hour = Duration::from_secs(3600);
        let next = Some(Instant::now() + hour);
        let slow = AcmeError::of(instant_acme::Error::Timeout(next), None);
        let least = slow.at_least(SystemTime::now());
        assert!(least <= hour && least > hour - Duration::from_secs(60));
        let slow = AcmeError::of(instant_acme::Error::Timeout(None), None);
        assert_eq!(slow.at_least(SystemTime::now()), Duration::ZERO);
    }

    #[test]
    fn many_names_make_one_line() {
        let failed = |name: &str| {
            let error = AcmeError::NotVerified {
                name: name.to_owned(),
                reason: "no".to_owned(),
            };
            (name.to_owned(), error)
        };
        let names = ["a", "b", "c", "d", "e", "f"];
        let error = AcmeError::Names {
            failed: names.map(failed).into(),
        };
        assert_eq!(error.culprits(), names);
        let text = error.to_string();
        assert!(
            text.ends_with("could not verify d: no; nor is there one for e, f"),
            "{text}"
        );
        assert!(error.hint().unwrap().starts_with("a must lead"));
    }
}
