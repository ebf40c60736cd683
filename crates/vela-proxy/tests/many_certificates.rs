//! What a thousand certificates cost. In a process of its own, whose memory is nothing else's.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use vela_proxy::tls::{CertificateFiles, CertificateStore, FileCertificates};

const MANY: usize = 1000;
const LIMIT: usize = 20 * 1024;

#[test]
fn a_certificate_takes_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let pairs: Vec<_> = (0..MANY)
        .map(|number| {
            let names = [format!("a{number}.test"), format!("www.a{number}.test")];
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names).unwrap();
            let own = params.signed_by(&key, &issuer).unwrap().pem();
            let files = CertificateFiles {
                certificate: dir.path().join(format!("{number}.pem")),
                key: dir.path().join(format!("{number}.key")),
            };
            std::fs::write(&files.certificate, own + &authority).unwrap();
            std::fs::write(&files.key, key.serialize_pem()).unwrap();
            files
        })
        .collect();

    let store = Arc::new(CertificateStore::new().unwrap());
    let before = resident();
    let files = FileCertificates::load(Arc::clone(&store), pairs);
    let each = resident().saturating_sub(before) / MANY;
    assert!(files.status().iter().all(|one| one.problem.is_none()));
    assert!(store.covers("www.a0.test") && store.covers("a999.test"));
    assert!(each < LIMIT, "{each} bytes a certificate");
}

/// The memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}
