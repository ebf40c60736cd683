use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::AcmeError;
use crate::tls::provider;

/// Carries requests to a certificate authority: over HTTPS, each on a connection of its own, within
/// limits of time and size.
#[derive(Clone)]
pub(super) struct Courier {
    tls: Arc<ClientConfig>,
    /// When the authority wants to be asked again, from the last refusal that says so. The client
    /// library drops it.
    retry_after: Arc<Mutex<Option<SystemTime>>>,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

const ONE_REQUEST: Duration = Duration::from_secs(30);
const LARGEST: usize = 1024 * 1024;

impl Courier {
    /// Trusts the system's authorities, or that of one file alone. Does file I/O.
    pub(super) fn new(authority: Option<&Path>) -> Result<Courier, AcmeError> {
        let roots = match authority {
            Some(path) => own_roots(path)?,
            None => system_roots(),
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| AcmeError::Unreachable {
                source: instant_acme::Error::Other(source.into()),
                retry_after: None,
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Courier {
            tls: Arc::new(config),
            retry_after: Arc::default(),
        })
    }

    /// One that knows of no refusal yet. Sessions are resumed across all.
    pub(super) fn fresh(&self) -> Courier {
        Courier {
            tls: Arc::clone(&self.tls),
            retry_after: Arc::default(),
        }
    }

    pub(super) fn retry_after(&self) -> Option<SystemTime> {
        *self
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Cause> {
        let (mut parts, body) = request.into_parts();
        let authority = parts
            .uri
            .authority()
            .ok_or("the URL names no host")?
            .clone();
        if parts.uri.scheme_str() != Some("https") {
            return Err("the URL is not https".into());
        }
        let body = Full::new(body.collect().await?.to_bytes());
        let host = authority.host();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let port = authority.port_u16().unwrap_or(443);
        let socket = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        socket.set_nodelay(true)?;
        let stream = TlsConnector::from(self.tls).connect(name, socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = Uri::from_str(path)?;
        let host = HeaderValue::try_from(authority.as_str())?;
        parts.headers.insert(HOST, host);
        let exchange = async {
            let response = sender
                .send_request(Request::from_parts(parts, body))
                .await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST).collect().await?.to_bytes();
            Ok::<_, Cause>(hyper::Response::from_parts(parts, Full::new(body)))
        };
        let mut exchange = std::pin::pin!(exchange);
        let response = tokio::select! {
            response = exchange.as_mut() => response?,
            ended = connection => {
                ended?;
                // What came before the end is there to be read.
                exchange.await?
            }
        };
        let mut response = response;
        let at = response.headers().get(RETRY_AFTER).and_then(moment);
        // The client library adds any number to the time of day, and panics at what is too much.
        match at {
            Some(at) => {
                let pause = at.duration_since(SystemTime::now()).unwrap_or_default();
                let seconds = HeaderValue::from(pause.as_secs_f64().ceil() as u64);
                response.headers_mut().insert(RETRY_AFTER, seconds);
            }
            None => {
                response.headers_mut().remove(RETRY_AFTER);
            }
        }
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let mut retry_after = self
                .retry_after
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *retry_after = at;
        }
        Ok(BytesResponse::from(response))
    }
}

impl HttpClient for Courier {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let carrying = self.clone().carry(request);
        Box::pin(async move {
            match timeout(ONE_REQUEST, carrying).await {
                Ok(carried) => carried.map_err(instant_acme::Error::Other),
                Err(_) => {
                    let late = io::Error::from(io::ErrorKind::TimedOut);
                    Err(instant_acme::Error::Other(late.into()))
                }
            }
        })
    }
}

/// The longest pause that an authority can ask for.
pub(crate) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// `Retry-After`, in either of its forms, and within reason.
pub(crate) fn moment(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    let now = SystemTime::now();
    let at = match text.parse() {
        Ok(seconds) => now + Duration::from_secs(seconds).min(LONGEST),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            now + LONGEST
        }
        Err(_) => httpdate::parse_http_date(text).ok()?,
    };
    Some(at.min(now + LONGEST))
}

fn own_roots(path: &Path) -> Result<RootCertStore, AcmeError> {
    let pem = fs::read(path).map_err(AcmeError::state("read", path))?;
    let unusable = || AcmeError::DirectoryCa {
        path: path.to_owned(),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| unusable())?;
        roots.add(certificate).map_err(|_| unusable())?;
    }
    match roots.is_empty() {
        true => Err(unusable()),
        false => Ok(roots),
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read some of the system's certificate authorities");
    }
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::error!(
            unusable,
            "the system has no certificate authorities: install ca-certificates"
        );
    }
    roots
}
