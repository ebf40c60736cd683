use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::provider::provider;
use super::{Certificate, DnsName, TlsError};

const DAY: Duration = Duration::from_secs(86_400);

/// What is served where there is nothing better, so that a handshake fails at the client's own
/// check and not before. Made anew at each start; nothing trusts it.
pub(super) fn fallback() -> Result<Certificate, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = "no certificate for this host (self-signed)";
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 3650 * DAY).into();
    let (certificate, key) = sign(&params)?;
    Certificate::from_der(vec![certificate], key).map_err(|source| TlsError::Certificate { source })
}

/// The certificate that proves to a certificate authority who answers for a name: RFC 8737.
pub(super) fn challenge(name: &DnsName, digest: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let mut params = CertificateParams::new([name.as_str().to_owned()]).map_err(unmade)?;
    params.distinguished_name = DistinguishedName::new();
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 30 * DAY).into();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let (certificate, key) = sign(&params)?;
    // Not a `Certificate`, whose checks refuse the critical extension.
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|source| TlsError::Crypto { source })?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
}

type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn sign(params: &CertificateParams) -> Result<Pair, TlsError> {
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = params.self_signed(&key).map_err(unmade)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((certificate.der().clone(), key))
}

fn unmade(source: rcgen::Error) -> TlsError {
    TlsError::SelfSigned { source }
}
