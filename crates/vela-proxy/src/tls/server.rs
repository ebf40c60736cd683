use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::provider::{provider, ticketer};
use super::stats::{Counters, count};
use super::{CertificateStore, TlsError, TlsStats, client_ca};

/// The server's side of TLS 1.2 and 1.3. Clones share everything.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<CertificateStore>,
    settings: TlsSettings,
    config: ArcSwap<ServerConfig>,
    challenges: Arc<ServerConfig>,
    client_ca: Mutex<Vec<u8>>,
    counters: Counters,
}

/// How a [`Tls`] behaves. The defaults are safe on the open internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// For a whole handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// A PEM file of authorities: clients must have a certificate from one of them. Default none.
    pub client_ca: Option<PathBuf>,
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings {
            handshake_timeout: Duration::from_secs(10),
            client_ca: None,
        }
    }
}

impl Tls {
    /// Serves certificates from a store, which may change at any time.
    ///
    /// # Errors
    /// When `client_ca` can't be used, or the system gives no random numbers.
    pub fn new(store: Arc<CertificateStore>, settings: TlsSettings) -> Result<Tls, TlsError> {
        let pem = match &settings.client_ca {
            Some(path) => client_ca::read(path)?,
            None => Vec::new(),
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(Resolver(Arc::clone(&store)));
        let config = server_config(&resolver, &settings, &pem)?;
        let mut challenges = builder()?
            .with_client_cert_verifier(Arc::new(NoClientAuth))
            .with_cert_resolver(Arc::new(ChallengeResolver(Arc::clone(&store))));
        challenges.alpn_protocols = vec![ACME_TLS_ALPN.to_vec()];
        challenges.session_storage = Arc::new(NoServerSessionStorage {});
        challenges.send_tls13_tickets = 0;
        Ok(Tls {
            inner: Arc::new(Inner {
                store,
                settings,
                config: ArcSwap::from_pointee(config),
                challenges: Arc::new(challenges),
                client_ca: Mutex::new(pem),
                counters: Counters::default(),
            }),
        })
    }

    /// Shakes hands with a client that has connected. `None` says that it was a certificate
    /// authority that checked a name, and has its answer.
    ///
    /// # Errors
    /// When the handshake fails, or takes longer than it may. The client has been told why.
    pub async fn accept<S>(&self, socket: S) -> Result<Option<TlsStream<S>>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let counters = &self.inner.counters;
        match timeout(
            self.inner.settings.handshake_timeout,
            self.handshake(socket),
        )
        .await
        {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => {
                count(&counters.failed);
                Err(HandshakeError::Failed { source })
            }
            Err(_) => {
                count(&counters.timed_out);
                Err(HandshakeError::TimedOut)
            }
        }
    }

    /// Reads the file of `client_ca` again. If it has changed, new clients must have a certificate
    /// from its present authorities, and no session that began under the old ones is resumed. Does
    /// file I/O.
    ///
    /// # Errors
    /// When the file can't be used: then the authorities stay what they were.
    pub fn reload_client_ca(&self) -> Result<(), TlsError> {
        let Inner {
            store, settings, ..
        } = &*self.inner;
        let Some(path) = &settings.client_ca else {
            return Ok(());
        };
        let mut current = self
            .inner
            .client_ca
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pem = client_ca::read(path)?;
        if *current != pem {
            let resolver: Arc<dyn ResolvesServerCert> = Arc::new(Resolver(Arc::clone(store)));
            let config = server_config(&resolver, settings, &pem)?;
            self.inner.config.store(Arc::new(config));
            *current = pem;
        }
        Ok(())
    }

    /// The certificates that it serves.
    pub fn store(&self) -> &Arc<CertificateStore> {
        &self.inner.store
    }

    /// What it has done.
    pub fn stats(&self) -> TlsStats {
        self.inner.counters.read()
    }

    /// Whether the other is a clone of it.
    pub(crate) fn is_same(&self, other: &Tls) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    async fn handshake<S>(&self, socket: S) -> io::Result<Option<TlsStream<S>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let inner = &*self.inner;
        let begun = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
        if is_challenge(&begun.client_hello()) {
            // RFC 8737 has nothing follow the handshake.
            let _shaken = begun.into_stream(Arc::clone(&inner.challenges)).await?;
            count(&inner.counters.challenges);
            return Ok(None);
        }
        let stream = begun.into_stream(inner.config.load_full()).await?;
        let session = stream.get_ref().1;
        let is_old = session.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let counters = &inner.counters;
        for (counter, counts) in [
            (&counters.handshakes, true),
            (&counters.resumed, is_resumed),
            (&counters.tls12, is_old),
            (&counters.tls12_resumed, is_old && is_resumed),
        ] {
            if counts {
                count(counter);
            }
        }
        Ok(Some(stream))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("store", &self.inner.store)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// Why a client is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The two could not agree, or the connection broke off.
    #[error("the TLS handshake failed")]
    Failed {
        /// Why.
        source: io::Error,
    },
    /// The client took too long.
    #[error("the TLS handshake did not end in time")]
    TimedOut,
}

/// The application protocol by which a certificate authority says that it checks a name.
const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, TlsError> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|source| TlsError::Crypto { source })
}

fn server_config(
    resolver: &Arc<dyn ResolvesServerCert>,
    settings: &TlsSettings,
    client_ca: &[u8],
) -> Result<ServerConfig, TlsError> {
    let clients = match &settings.client_ca {
        Some(path) => client_ca::verifier(client_ca, path)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = builder()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(resolver));
    config.alpn_protocols = vec![crate::http2::ALPN.to_vec(), b"http/1.1".to_vec()];
    // All of them are strong; scanners want the server to choose.
    config.ignore_client_order = true;
    config.ticketer = ticketer().map_err(|source| TlsError::Crypto { source })?;
    // Tickets need no memory here, and hold for any number of sessions.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn is_challenge(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(ACME_TLS_ALPN) && protocols.next().is_none()
}

#[derive(Debug)]
struct Resolver(Arc<CertificateStore>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.find(hello.server_name()))
    }
}

#[derive(Debug)]
struct ChallengeResolver(Arc<CertificateStore>);

impl ResolvesServerCert for ChallengeResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.challenge(hello.server_name()?)
    }
}
