use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request};

use crate::http_exchange::exchange;
use crate::printable;
use crate::redirect;
use crate::{Address, Probe, ProbeError, StatusMatch, Target};

/// How many redirects are followed, if any are.
const MAX_REDIRECTS: u32 = 10;

const AGENT: &str = concat!("vela-health/", env!("CARGO_PKG_VERSION"));

/// Healthy when a request is answered with the expected status.
///
/// Each attempt is a fresh HTTP/1.1 connection. The status decides: the body is read only to
/// quote its first line in an error, with limits on size and time, and no answer can use more
/// than 64 KiB of memory.
///
/// Unless told otherwise it sends GET, with the target's address as Host (`localhost` over a Unix
/// socket), expects 200, and takes a redirect for the answer.
#[derive(Debug, Clone)]
pub struct HttpProbe {
    method: Method,
    path: PathAndQuery,
    host: Option<HeaderValue>,
    expect: StatusMatch,
    follow_redirects: bool,
    port: Option<u16>,
}

/// Why an [`HttpProbe`] can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHttpProbe {
    /// Not what can follow the host in a URL.
    #[error("`{0}` is not a path that starts with `/`")]
    Path(String),
    /// Not the name of a method.
    #[error("`{0}` is not an HTTP method")]
    Method(String),
    /// Not a host name, with or without a port.
    #[error("`{0}` is not a host name")]
    Host(String),
}

impl HttpProbe {
    /// GET `path`, which may have a query.
    ///
    /// # Errors
    ///
    /// If it does not start with a slash, or has characters that a request line can't carry.
    pub fn new(path: &str) -> Result<Self, InvalidHttpProbe> {
        let invalid = || InvalidHttpProbe::Path(path.into());
        if !path.starts_with('/') {
            return Err(invalid());
        }
        Ok(Self {
            method: Method::GET,
            path: PathAndQuery::from_str(path).map_err(|_| invalid())?,
            host: None,
            expect: StatusMatch::default(),
            follow_redirects: false,
            port: None,
        })
    }

    /// Sends this method, with an empty body.
    ///
    /// # Errors
    ///
    /// If it is not a method, or CONNECT, which is not a request for a path.
    pub fn method(mut self, method: &str) -> Result<Self, InvalidHttpProbe> {
        self.method = Method::from_str(method)
            .ok()
            .filter(|method| method != Method::CONNECT)
            .ok_or_else(|| InvalidHttpProbe::Method(method.into()))?;
        Ok(self)
    }

    /// Sends this Host, for programs that answer only to their own name.
    ///
    /// # Errors
    ///
    /// If a Host header can't carry it.
    pub fn host(mut self, host: &str) -> Result<Self, InvalidHttpProbe> {
        let is_host = host.parse::<hyper::http::uri::Authority>().is_ok() && !host.contains('@');
        self.host = HeaderValue::from_str(host).ok().filter(|_| is_host);
        match self.host {
            Some(_) => Ok(self),
            None => Err(InvalidHttpProbe::Host(host.into())),
        }
    }

    /// Counts this status, or any of a range of them, as healthy.
    #[must_use]
    pub fn expect(mut self, expect: impl Into<StatusMatch>) -> Self {
        self.expect = expect.into();
        self
    }

    /// Follows redirects, ten at most and only on the instance itself, with the method kept. A
    /// redirect to another host or to https is an error.
    #[must_use]
    pub fn follow_redirects(mut self, follow: bool) -> Self {
        self.follow_redirects = follow;
        self
    }

    /// Probes this port instead of the target's; one of 127.0.0.1 if that is a Unix socket.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    fn request(&self, path: &PathAndQuery, host: &HeaderValue) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = path.clone().into();
        let headers = request.headers_mut();
        headers.insert(HOST, host.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        request
    }
}

#[async_trait]
impl Probe for HttpProbe {
    async fn check(&self, target: &Target) -> Result<(), ProbeError> {
        let target = target.at_port(self.port);
        let addr = &target.addr;
        let host = self.host.clone().unwrap_or_else(|| host_of(addr));
        let mut path = self.path.clone();
        let mut followed = 0;
        loop {
            let answer = exchange(&target, self.request(&path, &host)).await?;
            if self.expect.matches(answer.status) {
                return Ok(());
            }
            let Some(location) = answer.location.filter(|_| self.follow_redirects) else {
                return Err(ProbeError::Status {
                    expected: self.expect,
                    got: answer.status,
                    line: answer.line,
                });
            };
            let shown = || printable::line(location.as_bytes()).unwrap_or_default();
            if followed == MAX_REDIRECTS {
                return Err(ProbeError::TooManyRedirects {
                    addr: addr.clone(),
                    limit: followed,
                    location: shown(),
                });
            }
            followed += 1;
            let local = std::str::from_utf8(location.as_bytes())
                .ok()
                .and_then(|location| redirect::resolve(&path, location, host.as_bytes()));
            path = local.ok_or_else(|| ProbeError::RedirectedAway {
                addr: addr.clone(),
                location: shown(),
            })?;
        }
    }
}

fn host_of(addr: &Address) -> HeaderValue {
    match addr {
        Address::Tcp(addr) => {
            HeaderValue::from_str(&addr.to_string()).expect("an address is made of visible ASCII")
        }
        Address::Unix(_) => HeaderValue::from_static("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_cannot_carry_is_refused() {
        for path in ["", "health", "/a b", "/a\r\nX: y", "http://elsewhere/"] {
            assert_eq!(
                HttpProbe::new(path).unwrap_err(),
                InvalidHttpProbe::Path(path.into()),
                "{path:?}"
            );
        }
        let probe = || HttpProbe::new("/health?deep=1").unwrap();
        for method in ["", "GE T", "CONNECT", "GET\r\n"] {
            assert!(probe().method(method).is_err(), "{method:?}");
        }
        for host in ["", "a b", "a\r\nX: y", "user@host", "host/path", "a:b:c"] {
            assert!(probe().host(host).is_err(), "{host:?}");
        }
        assert!(
            probe()
                .method("HEAD")
                .unwrap()
                .host("my-app.com:8080")
                .is_ok()
        );
        assert!(probe().host("[::1]:80").is_ok());
    }
}
