use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::Result;

/// One ECDSA P-256 certificate for all proxies, as files.
#[derive(Debug, Clone)]
pub struct TlsPair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub both: PathBuf,
}

impl TlsPair {
    /// Makes one for `localhost` in `dir`.
    pub fn make(dir: &Path) -> Result<TlsPair> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = CertificateParams::new(["localhost".to_owned()])?;
        let certificate = params.self_signed(&key)?.pem();
        let pair = TlsPair {
            certificate: dir.join("certificate.pem"),
            key: dir.join("key.pem"),
            both: dir.join("both.pem"),
        };
        let key = key.serialize_pem();
        std::fs::write(&pair.certificate, &certificate)?;
        std::fs::write(&pair.key, &key)?;
        std::fs::write(&pair.both, certificate + &key)?;
        Ok(pair)
    }
}
