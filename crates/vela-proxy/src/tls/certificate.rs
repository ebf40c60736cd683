use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::DnsName;
use super::provider::provider;

/// A certificate chain and its private key, which belong together. Clones share them.
#[derive(Clone)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    details: Arc<Details>,
    is_for_tests: bool,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// The DNS names that it is for.
    pub names: Vec<DnsName>,
    /// Who signed it.
    pub issuer: String,
    /// The number that its issuer gave it, as bytes in hexadecimal with colons between them.
    pub serial: String,
    /// What kind of key it is for: `ECDSA P-256`, `RSA 2048`.
    pub key: String,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl Certificate {
    /// Parses a chain, the server's own certificate first, and the private key to it. Both texts
    /// may hold other things too, and may be the same.
    ///
    /// # Errors
    /// When one of them is missing or malformed, when they do not belong together, or when the
    /// certificate is not valid at `now`.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        now: SystemTime,
    ) -> Result<Certificate, CertificateError> {
        let certificate = Certificate::of_any_time(chain, key)?;
        let Details {
            not_before,
            not_after,
            ..
        } = *certificate.details;
        if now > not_after {
            return Err(CertificateError::Expired { at: not_after });
        }
        // A day's grace for clocks that are behind.
        if now + Duration::from_secs(86_400) < not_before {
            return Err(CertificateError::NotYetValid { from: not_before });
        }
        Ok(certificate)
    }

    /// The same, whenever it is valid.
    pub(crate) fn of_any_time(chain: &[u8], key: &[u8]) -> Result<Certificate, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| CertificateError::Pem { source })?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| match source {
            pem::Error::NoItemsFound => CertificateError::NoKey,
            source => CertificateError::KeyPem { source },
        })?;
        Certificate::from_der(chain, key)
    }

    pub(super) fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Certificate, CertificateError> {
        let own = chain.first().ok_or(CertificateError::NoCertificate)?;
        let details = Details::read(own)?;
        let key =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|source| match source {
                rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch,
                source => CertificateError::Unusable { source },
            })?;
        Ok(Certificate {
            key: Arc::new(key),
            details: Arc::new(details),
            is_for_tests: false,
        })
    }

    /// The same, from an authority that no client trusts: nobody is led to it for good.
    pub(crate) fn for_tests(self) -> Certificate {
        Certificate {
            is_for_tests: true,
            ..self
        }
    }

    pub(crate) fn is_for_tests(&self) -> bool {
        self.is_for_tests
    }

    /// What it says of itself.
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// Whether it is for this host, a name in lower case.
    pub fn covers(&self, host: &str) -> bool {
        self.details.names.iter().any(|name| name.covers(host))
    }

    /// The certificate itself, without the rest of its chain, in DER.
    pub(crate) fn own(&self) -> &CertificateDer<'static> {
        // `from_der` has seen the first.
        &self.key.cert[0]
    }
}

/// Shows no key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("details", &self.details)
            .finish_non_exhaustive()
    }
}

impl Details {
    fn read(certificate: &CertificateDer<'_>) -> Result<Details, CertificateError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| CertificateError::MalformedCertificate)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| CertificateError::MalformedCertificate)?
            .map_or_else(Vec::new, |names| {
                let names = names.value.general_names.iter();
                names
                    .filter_map(|name| match name {
                        GeneralName::DNSName(name) => DnsName::parse(name).ok(),
                        _ => None,
                    })
                    .collect()
            });
        Ok(Details {
            names,
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string(),
            key: kind_of_key(parsed.public_key()),
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
        })
    }

    /// How long it is valid from `now` on: zero once it has expired.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}

/// Why a certificate is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// There is no certificate.
    #[error("there is no certificate")]
    NoCertificate,
    /// There is no private key.
    #[error("there is no private key")]
    NoKey,
    /// The chain is not PEM.
    #[error("the certificate chain is malformed")]
    Pem {
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The private key is not PEM.
    #[error("the private key is malformed")]
    KeyPem {
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The certificate is not X.509.
    #[error("the certificate is malformed")]
    MalformedCertificate,
    /// The private key is another certificate's.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The key is of a kind that TLS does not use.
    #[error("the private key cannot be used")]
    Unusable {
        /// Why not.
        source: rustls::Error,
    },
    /// It has expired.
    #[error("the certificate has expired, {} days ago", days_since(*at))]
    Expired {
        /// When.
        at: SystemTime,
    },
    /// It is for later.
    #[error("the certificate is not valid yet")]
    NotYetValid {
        /// From when it is.
        from: SystemTime,
    },
}

impl CertificateError {
    /// What the operator can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            CertificateError::Mismatch => {
                "the server's own certificate comes first in its file, then the intermediate ones"
            }
            CertificateError::KeyPem { .. } | CertificateError::NoKey => {
                "the key must be an unencrypted PEM: `-----BEGIN PRIVATE KEY-----`"
            }
            CertificateError::NotYetValid { .. } => "check the clock of this machine",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn kind_of_key(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(point)) => format!("ECDSA P-{}", point.key_size()),
        _ if key.algorithm.algorithm == OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let since = Duration::from_secs(seconds.unsigned_abs());
    let moved = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(since),
        false => SystemTime::UNIX_EPOCH.checked_add(since),
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn days_since(at: SystemTime) -> u64 {
    SystemTime::now()
        .duration_since(at)
        .map_or(0, |since| since.as_secs() / 86_400)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Pair, pair};
    use super::*;

    #[test]
    fn a_sound_pair_is_read() {
        let Pair { chain, key } = pair(&["A.test", "*.b.test"], 30);
        let now = SystemTime::now();
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes(), now).unwrap();
        let details = certificate.details();
        assert!(certificate.covers("a.test") && certificate.covers("x.b.test"));
        assert!(!certificate.covers("c.test"));
        assert_eq!(details.remaining(now).as_secs() / 86_400, 29);
        assert_eq!(details.key, "ECDSA P-256");
        let bytes: Vec<&str> = details.serial.split(':').collect();
        assert!(bytes.len() > 8 && bytes.iter().all(|byte| byte.len() == 2));
        // One file for both will do.
        let both = format!("{key}{chain}");
        Certificate::from_pem(both.as_bytes(), both.as_bytes(), now).unwrap();
        assert!(!format!("{certificate:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_bad_pair_is_refused_by_name() {
        let good = pair(&["a.test"], 30);
        let other = pair(&["a.test"], 30);
        let expired = pair(&["a.test"], -3);
        let now = SystemTime::now();
        let refusal = |chain: &str, key: &str| {
            Certificate::from_pem(chain.as_bytes(), key.as_bytes(), now)
                .unwrap_err()
                .to_string()
        };
        for (chain, key, text) in [
            (&*good.chain, &*other.key, "does not belong"),
            (&*expired.chain, &*expired.key, "expired, 3 days ago"),
            ("", &*good.key, "no certificate"),
            (&*good.chain, "", "no private key"),
            (&*good.key, &*good.key, "no certificate"),
            (
                &good.chain[..good.chain.len() - 40],
                &*good.key,
                "malformed",
            ),
            (&*good.chain, &good.key[..good.key.len() - 40], "malformed"),
        ] {
            let refusal = refusal(chain, key);
            assert!(refusal.contains(text), "{refusal}");
        }
        let early = now - Duration::from_secs(10 * 86_400);
        let error = Certificate::from_pem(good.chain.as_bytes(), good.key.as_bytes(), early);
        assert!(matches!(error, Err(CertificateError::NotYetValid { .. })));
    }
}
