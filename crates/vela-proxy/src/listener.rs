use std::net::TcpListener;
use std::time::Duration;

use crate::acme::HttpChallenges;
use crate::entrance::{Entrance, Redirect};
use crate::tls::Tls;

/// A socket that is bound already, and what is spoken on it.
///
/// ```no_run
/// use std::net::TcpListener;
/// use std::sync::Arc;
/// use vela_proxy::tls::{CertificateStore, Tls, TlsSettings};
/// use vela_proxy::{Listener, Proxy, ProxyConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::new(Arc::new(CertificateStore::new()?), TlsSettings::default())?;
/// let serving = Proxy::new(ProxyConfig::default()).serve([
///     Listener::http(TcpListener::bind("0.0.0.0:80")?).redirecting(tls.clone(), 443),
///     Listener::https(TcpListener::bind("0.0.0.0:443")?, tls),
/// ])?;
/// # drop(serving);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) entrance: Entrance,
}

impl Listener {
    /// Serves HTTP.
    pub fn http(socket: TcpListener) -> Listener {
        Listener {
            socket,
            entrance: Entrance::default(),
        }
    }

    /// Serves HTTPS.
    pub fn https(socket: TcpListener, tls: Tls) -> Listener {
        let entrance = Entrance {
            tls: Some(tls),
            ..Entrance::default()
        };
        Listener { socket, entrance }
    }

    /// Sends clients to HTTPS at this port, with `308 Permanent Redirect` to the same path and
    /// query: for hosts that have a route, and a valid certificate in the store of `tls`. Nothing
    /// below `/.well-known/acme-challenge/` is redirected, nor what a trusted proxy says came to it
    /// by HTTPS. Not for an HTTPS listener.
    #[must_use]
    pub fn redirecting(mut self, tls: Tls, port: u16) -> Listener {
        self.entrance.redirect = Some(Redirect { tls, port });
        self
    }

    /// Answers certificate authorities that look for a challenge of these: for hosts that have a
    /// route, before anything else is done with the request. What is no challenge of these goes on.
    #[must_use]
    pub fn answering(mut self, challenges: HttpChallenges) -> Listener {
        self.entrance.challenges = Some(challenges);
        self
    }

    /// Passes no request to an app: what is neither answered nor redirected is refused with 403. For
    /// a plain listener beside an HTTPS one whose clients must have a certificate.
    #[must_use]
    pub fn closed(mut self) -> Listener {
        self.entrance.is_closed = true;
        self
    }

    /// Has browsers come by HTTPS alone for that long (`Strict-Transport-Security`), for hosts
    /// that have a valid certificate. An app's own such header goes before it. There is no way
    /// back before the time is over. For an HTTPS listener: browsers ignore it elsewhere.
    #[must_use]
    pub fn with_hsts(mut self, max_age: Duration) -> Listener {
        self.entrance.hsts = Some(format!("max-age={}", max_age.as_secs()));
        self
    }
}

/// Serves HTTP.
impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Listener {
        Listener::http(socket)
    }
}
