use hyper::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, StatusCode, Version};

use crate::host::normalise;

/// Why a request is refused before it is routed: what two servers could understand differently is
/// not passed from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request has no Host header")]
    NoHost,
    #[error("the request has more than one Host header")]
    RepeatedHost,
    #[error("the Host is not a host name")]
    InvalidHost,
    #[error("the request's target is not a path")]
    InvalidTarget,
    #[error("the request has more than one Content-Length header")]
    RepeatedContentLength,
    #[error("the only Transfer-Encoding that is understood is chunked")]
    TransferEncoding,
    #[error("CONNECT is not supported")]
    Connect,
    #[error("the only Expect that is understood is 100-continue")]
    Expectation,
}

impl Refusal {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Refusal::TransferEncoding | Refusal::Connect => StatusCode::NOT_IMPLEMENTED,
            Refusal::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// The host that a request is for, as it was written, when the request is sound. It is one that
/// [`normalise`] understands.
pub(crate) fn host_of<B>(request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    if request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if let Some(first) = headers.get(TRANSFER_ENCODING) {
        let one = headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_none();
        if !one
            || !first.as_bytes().eq_ignore_ascii_case(b"chunked")
            || request.version() != Version::HTTP_11
        {
            return Err(Refusal::TransferEncoding);
        }
    }
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Refusal::RepeatedContentLength);
    }
    if let Some(expected) = headers.get(EXPECT)
        && !expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::Expectation);
    }

    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().ok_or(Refusal::NoHost)?;
    if hosts.next().is_some() {
        return Err(Refusal::RepeatedHost);
    }
    let uri = request.uri();
    let host = match (uri.scheme_str(), uri.authority()) {
        // In absolute form the authority wins over the Host header (RFC 9112, 3.2.2).
        (Some("http" | "https"), Some(authority)) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::InvalidHost)?
        }
        (None, None) => host.clone(),
        _ => return Err(Refusal::InvalidTarget),
    };
    let is_path = uri.path().starts_with('/');
    let is_server_itself = uri.path() == "*" && request.method() == Method::OPTIONS;
    if !(is_path || is_server_itself) {
        return Err(Refusal::InvalidTarget);
    }
    match host.to_str() {
        Ok(text) if normalise(text).is_some() => Ok(host),
        _ => Err(Refusal::InvalidHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<String, Refusal> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let host = host_of(&request.body(()).unwrap())?;
        Ok(host.to_str().unwrap().to_owned())
    }

    #[test]
    fn sound_requests_have_a_host() {
        let host = ("host", "A.test:80");
        assert_eq!(check("GET", "/", &[host]).unwrap(), "A.test:80");
        assert_eq!(check("OPTIONS", "*", &[host]).unwrap(), "A.test:80");
        assert_eq!(check("GET", "http://b.test/x", &[host]).unwrap(), "b.test");
        let expect = ("expect", "100-Continue");
        let chunked = ("transfer-encoding", "Chunked");
        assert!(check("POST", "/", &[host, expect, chunked]).is_ok());
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let host = ("host", "a.test");
        for (method, target, headers, refusal) in [
            ("GET", "/", &[][..], Refusal::NoHost),
            ("GET", "http://a.test/", &[], Refusal::NoHost),
            ("GET", "/", &[host, host], Refusal::RepeatedHost),
            ("GET", "/", &[("host", "")], Refusal::InvalidHost),
            ("GET", "/", &[("host", "a.test/x")], Refusal::InvalidHost),
            ("GET", "/", &[("host", "u@a.test")], Refusal::InvalidHost),
            (
                "GET",
                "/",
                &[("host", "a.test, b.test")],
                Refusal::InvalidHost,
            ),
            ("GET", "http://u:p@a.test/", &[host], Refusal::InvalidHost),
            ("GET", "ftp://a.test/", &[host], Refusal::InvalidTarget),
            ("GET", "a.test:80", &[host], Refusal::InvalidTarget),
            ("GET", "*", &[host], Refusal::InvalidTarget),
            ("CONNECT", "a.test:80", &[host], Refusal::Connect),
            (
                "POST",
                "/",
                &[host, ("transfer-encoding", "gzip, chunked")],
                Refusal::TransferEncoding,
            ),
            (
                "POST",
                "/",
                &[host, ("transfer-encoding", "identity")],
                Refusal::TransferEncoding,
            ),
            (
                "POST",
                "/",
                &[
                    host,
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Refusal::TransferEncoding,
            ),
            (
                "POST",
                "/",
                &[host, ("content-length", "1"), ("content-length", "1")],
                Refusal::RepeatedContentLength,
            ),
            (
                "POST",
                "/",
                &[host, ("expect", "200-ok")],
                Refusal::Expectation,
            ),
        ] {
            assert_eq!(
                check(method, target, headers),
                Err(refusal),
                "{method} {target} {headers:?}"
            );
        }
    }
}
