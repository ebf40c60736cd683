//! How long a thousand certificates take from their files to the first handshake.
//!
//! `cargo run --release -p vela-proxy --example certificates`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use vela_proxy::tls::{CertificateFiles, CertificateStore, FileCertificates, Tls, TlsSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("vela-certificates-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let mut pairs = Vec::new();
    for number in 0..1000 {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([format!("a{number}.test")])?.self_signed(&key)?;
        let files = CertificateFiles {
            certificate: dir.join(format!("{number}.pem")),
            key: dir.join(format!("{number}.key")),
        };
        std::fs::write(&files.certificate, certificate.pem())?;
        std::fs::write(&files.key, key.serialize_pem())?;
        pairs.push(files);
    }
    let begun = Instant::now();
    let store = Arc::new(CertificateStore::new()?);
    let files = FileCertificates::load(Arc::clone(&store), pairs);
    let tls = Tls::new(store, TlsSettings::default())?;
    println!(
        "{} certificates loaded in {:?}",
        files.status().len(),
        begun.elapsed()
    );
    let begun = Instant::now();
    files.reload();
    println!("looked at again in {:?}", begun.elapsed());
    assert!(tls.store().covers("a999.test"));
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
