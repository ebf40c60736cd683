use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Result, Seen};

/// Clients at a time.
const CLIENTS: usize = 32;

/// Connects again and again for that long: TCP, a handshake of TLS 1.3 with X25519, and one small request, without
/// which no session ticket would come. The same for every proxy; `resumed` takes up the session of the connection
/// before. The certificate is not verified: that would be the client's time.
pub fn handshakes(addr: SocketAddr, resumed: bool, seconds: u64) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let began = Instant::now();
    let seen = runtime.block_on(async {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(client(addr, resumed, until)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.push(client.await?.map_err(|error| error.to_string())?);
        }
        Result::Ok(all)
    })?;
    let took = began.elapsed();
    let mut latencies: Vec<Duration> = Vec::new();
    let mut errors = 0;
    for (of_one, failed) in seen {
        latencies.extend(of_one);
        errors += failed;
    }
    latencies.sort_unstable();
    let at = |part: f64| {
        let last = latencies.len().saturating_sub(1);
        latencies
            .get((last as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    };
    Ok(Seen {
        requests: latencies.len() as u64,
        took,
        bytes: 0,
        errors,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    })
}

/// How long each of its connections took, and how many were not what they should be.
async fn client(
    addr: SocketAddr,
    resumed: bool,
    until: Instant,
) -> std::result::Result<(Vec<Duration>, u64), Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = match resumed {
        true => Resumption::in_memory_sessions(8),
        false => Resumption::disabled(),
    };
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost")?;
    let request = format!("GET /1 HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let (mut took, mut failed) = (Vec::new(), 0);
    let wanted = match resumed {
        true => HandshakeKind::Resumed,
        false => HandshakeKind::Full,
    };
    let mut is_first = resumed;
    let mut answer = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        let mut stream = connector.connect(name.clone(), socket).await?;
        let is_good = stream.get_ref().1.handshake_kind() == Some(wanted);
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        // Some end without saying so.
        let end = stream.read_to_end(&mut answer).await;
        let is_answered = answer.starts_with(b"HTTP/1.1 200");
        if let (Err(error), false) = (end, is_answered) {
            return Err(error.into());
        }
        match (is_good && is_answered, std::mem::take(&mut is_first)) {
            // There was no session before.
            (_, true) => {}
            (true, false) => took.push(began.elapsed()),
            (false, false) => failed += 1,
        }
    }
    Ok((took, failed))
}

/// Verifies nothing.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
