use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;

/// A request as HTTP/1.1 would have it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    /// The body is to come in chunks: nothing says how long it is.
    pub(crate) is_chunked: bool,
    /// It asks for a tunnel through a stream (RFC 8441).
    pub(crate) is_tunnel: bool,
}

/// The head of a request. What is wrong with it in HTTP/1.1 too is left to whoever reads that.
/// `None` if it is malformed as a request of HTTP/2.
pub(crate) fn of(parts: &Parts, has_no_body: bool) -> Option<Head> {
    let protocol = parts.extensions.get::<Protocol>();
    let mut bytes = Vec::with_capacity(512);
    let mut line = |texts: &[&[u8]]| {
        texts.iter().for_each(|text| bytes.extend_from_slice(text));
    };
    let authority = authority(parts)?;
    if let Some(scheme) = parts.uri.scheme()
        && *scheme != Scheme::HTTP
        && *scheme != Scheme::HTTPS
    {
        return None;
    }
    // Nobody has checked it so far, and it becomes a line of the head.
    if protocol.is_some_and(|protocol| !is_token(protocol.as_str())) {
        return None;
    }
    let target = parts.uri.path_and_query().map(PathAndQuery::as_str);
    let (method, target) = match (protocol, target) {
        (Some(_), Some(target)) => ("GET", target),
        // CONNECT has none, and is refused for what it is.
        (None, None) if parts.method == Method::CONNECT => ("CONNECT", "/"),
        (None, Some(target)) => (parts.method.as_str(), target),
        _ => return None,
    };
    line(&[method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"]);
    if let Some(authority) = authority {
        line(&[b"host: ", authority, b"\r\n"]);
    }
    let is_tunnel = protocol.is_some();
    for (name, value) in &parts.headers {
        // In HTTP/2 cookies may be split, so that each is compressed alone (RFC 9113, 8.2.3).
        let is_elsewhere = name == HOST || name == COOKIE;
        // What goes through a tunnel is no body, and the key is the proxy's own (RFC 8441, 5).
        let is_void = is_tunnel && (name == CONTENT_LENGTH || name == SEC_WEBSOCKET_KEY);
        if !(is_elsewhere || is_void) {
            line(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    let mut cookies = parts.headers.get_all(COOKIE).iter();
    if let Some(first) = cookies.next() {
        line(&[b"cookie: ", first.as_bytes()]);
        for more in cookies {
            line(&[b"; ", more.as_bytes()]);
        }
        line(&[b"\r\n"]);
    }
    if let Some(protocol) = protocol {
        let protocol = protocol.as_str().as_bytes();
        line(&[b"connection: upgrade\r\nupgrade: ", protocol, b"\r\n"]);
        if protocol.eq_ignore_ascii_case(b"websocket") {
            line(&[b"sec-websocket-key: ", key().as_bytes(), b"\r\n"]);
        }
    }
    let has_length = parts.headers.contains_key(CONTENT_LENGTH);
    let is_chunked = !(is_tunnel || has_no_body || has_length);
    if is_chunked {
        line(&[b"transfer-encoding: chunked\r\n"]);
    }
    line(&[b"\r\n"]);
    Some(Head {
        bytes,
        is_chunked,
        is_tunnel,
    })
}

/// Whether it is one word (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// What stands for `Host`. `None` if two contradict each other (RFC 9113, 8.3.1).
fn authority(parts: &Parts) -> Option<Option<&[u8]>> {
    let authority = parts.uri.authority().map(|one| one.as_str().as_bytes());
    let mut hosts = parts
        .headers
        .get_all(HOST)
        .iter()
        .map(HeaderValue::as_bytes);
    let host = hosts.next();
    match (authority, host) {
        _ if hosts.next().is_some() => None,
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => None,
        (authority, host) => Some(authority.or(host)),
    }
}

/// What a WebSocket's handshake over HTTP/1.1 has, and that over HTTP/2 does without.
fn key() -> String {
    let random = || RandomState::new().hash_one(0).to_ne_bytes();
    BASE64_STANDARD.encode([random(), random()].concat())
}

/// How a response's body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Reads a head that this proxy has written itself, which the bytes begin with; gives its length too.
pub(crate) fn response(bytes: &[u8]) -> Option<(Response<()>, Framing, usize)> {
    let mut fields = [const { MaybeUninit::uninit() }; 128];
    let mut more_fields = Vec::new();
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let mut status = parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    if let Err(httparse::Error::TooManyHeaders) = status {
        let head = &bytes[..memchr::memmem::find(bytes, b"\r\n\r\n")? + 4];
        let lines = head.iter().filter(|byte| **byte == b'\n').count();
        more_fields.resize_with(lines, MaybeUninit::uninit);
        parsed = httparse::Response::new(&mut []);
        status = parser.parse_response_with_uninit_headers(&mut parsed, head, &mut more_fields);
    }
    let httparse::Status::Complete(length) = status.ok()? else {
        return None;
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(parsed.code?).ok()?;
    let headers = response.headers_mut();
    headers.try_reserve(parsed.headers.len()).ok()?;
    // All values are parts of one copy.
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let mut framing = Framing::None;
    for field in parsed.headers.iter() {
        match field.name {
            // Each of them is this proxy's own, and in lower case.
            "connection" | "upgrade" => continue,
            "transfer-encoding" => {
                framing = Framing::Chunked;
                continue;
            }
            "content-length" => {
                let digits = std::str::from_utf8(field.value).ok()?;
                framing = Framing::Length(digits.parse().ok()?);
            }
            _ => {}
        }
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(part(&head, bytes, field.value)?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    Some((response, framing, length))
}

/// What is in a copy of the first of the bytes where `part` is in them.
fn part(copy: &Bytes, bytes: &[u8], part: &[u8]) -> Option<Bytes> {
    let begin = part.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
    let end = begin + part.len();
    (end <= copy.len()).then(|| copy.slice(begin..end))
}

/// Reads a trailer section that this proxy has written itself.
pub(crate) fn trailers(section: &[u8]) -> Option<HeaderMap> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let parsed = httparse::parse_headers(section, &mut fields).ok()?;
    let httparse::Status::Complete((_, fields)) = parsed else {
        return None;
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        trailers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(trailers)
}

/// The end of a chunked body.
pub(crate) fn last_chunk(trailers: Option<&HeaderMap>) -> Bytes {
    let mut bytes = b"0\r\n".to_vec();
    for (name, value) in trailers.into_iter().flatten() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_up_to_its_body() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b c \r\nX-Empty:\r\nx-void: \r\nx-a: \xe9\r\n\r\n";
        for body in [&b""[..], b"body\r\n\r\n"] {
            let bytes = [head, body].concat();
            let (response, framing, length) = response(&bytes).unwrap();
            assert_eq!((framing, length), (Framing::Length(5), head.len()));
            let fields: Vec<_> = response
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .collect();
            assert_eq!(
                fields,
                [
                    ("content-length", &b"5"[..]),
                    ("x-a", b"b c"),
                    ("x-a", b"\xe9"),
                    ("x-empty", b""),
                    ("x-void", b""),
                ]
            );
        }
        assert!(response(&head[..head.len() - 1]).is_none());
        let many = format!("HTTP/1.1 204 x\r\n{}\r\n", "a: b\r\n".repeat(300));
        let (response, framing, length) = response(many.as_bytes()).unwrap();
        assert_eq!((response.headers().len(), length), (300, many.len()));
        assert_eq!(framing, Framing::None);
    }
}
