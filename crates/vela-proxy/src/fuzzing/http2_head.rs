use h2::ext::Protocol;
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::request_head::Manner;
use super::strict;
use crate::head_end::{Extent, HeadEnd};
use crate::http2::head::{last_chunk, of};

/// What stands between the parts of a request.
const SEPARATOR: u8 = 0xfe;

/// What a request's head must have become.
#[derive(Debug)]
struct Wanted {
    words: [Vec<u8>; 3],
    fields: Vec<(String, Vec<u8>)>,
    is_tunnel: bool,
    is_chunked: bool,
}

/// The bytes are what a client sends as a request's head over HTTP/2, without its compression, and
/// as its trailers: the pseudo-header fields, a line for each field, and after an empty one a line
/// for each trailer.
pub(super) fn http2_head(bytes: &[u8]) {
    let Some((&flags, bytes)) = bytes.split_first() else {
        return;
    };
    let mut pieces = bytes.split(|&byte| byte == SEPARATOR);
    let Some(parts) = parts(flags, &mut pieces) else {
        return;
    };
    check_trailers(&fields(&mut pieces));
    let has_no_body = flags & 1 != 0;
    let wanted = wanted(&parts, has_no_body);
    let head = of(&parts, has_no_body);
    let Some((head, wanted)) = head.as_ref().zip(wanted.as_ref()) else {
        assert_eq!(head.is_some(), wanted.is_some(), "{parts:?}");
        return;
    };
    let text = head.bytes.escape_ascii();
    let (words, fields) =
        strict::lines(&head.bytes).unwrap_or_else(|what| panic!("{what}: {text}"));
    assert_eq!(words, wanted.words, "{text}");
    let is_key = |name: &str| wanted.is_tunnel && name == "sec-websocket-key";
    let keys = fields.iter().filter(|(name, _)| is_key(name)).count();
    let fields = fields.into_iter().filter(|(name, _)| !is_key(name));
    let fields = fields.map(|(name, value)| (name, value.to_vec()));
    assert_eq!(fields.collect::<Vec<_>>(), wanted.fields, "{text}");
    let is_websocket = |protocol: &Protocol| protocol.as_str().eq_ignore_ascii_case("websocket");
    let protocol = parts.extensions.get::<Protocol>();
    assert_eq!(keys, usize::from(protocol.is_some_and(is_websocket)));
    assert_eq!(head.is_tunnel, wanted.is_tunnel);
    assert_eq!(head.is_chunked, wanted.is_chunked);
    assert_eq!(
        HeadEnd::default().find(&head.bytes),
        Extent::Whole(head.bytes.len()),
        "{text}"
    );
    for bits in [flags >> 4, !(flags >> 4)] {
        let Some(passed) = Manner::of(bits).check(&head.bytes) else {
            continue;
        };
        let [_, target, _] = &wanted.words;
        // Another form would say again who is asked.
        assert!(matches!(&target[..], [b'/', ..] | b"*"), "{text}");
        assert_eq!(passed.to_chunks, head.is_chunked, "{text}");
        assert!(passed.asked.is_http11 && passed.asked.upgrades == head.is_tunnel);
        let out = strict::request(&passed.out).ok().flatten();
        let out = out.expect("it has been read before");
        let host = wanted.fields.iter().find(|(name, _)| name == "host");
        assert_eq!(
            Some(&out.values("host")[0].to_vec()),
            host.map(|(_, value)| value)
        );
    }
}

/// As the crate `h2` makes them; nothing where it refuses.
fn parts<'a>(flags: u8, pieces: &mut impl Iterator<Item = &'a [u8]>) -> Option<Parts> {
    let method = Method::from_bytes(pieces.next()?).ok()?;
    let mut parts = uri::Parts::default();
    let authority = pieces.next()?;
    if !authority.is_empty() {
        parts.authority = Some(Authority::try_from(authority).ok()?);
    }
    let scheme = pieces.next()?;
    let path = pieces.next()?;
    let mut request = Request::builder();
    let has_protocol = flags & 2 != 0;
    if has_protocol {
        let protocol = std::str::from_utf8(pieces.next()?).ok()?;
        request = request.extension(Protocol::from(protocol));
    }
    let is_connect = method == Method::CONNECT;
    if has_protocol && !is_connect {
        return None;
    }
    if has_protocol || !is_connect {
        let scheme = scheme.try_into().ok()?;
        if parts.authority.is_some() {
            parts.scheme = Some(scheme);
        }
        let path = PathAndQuery::try_from(path)
            .ok()
            .filter(|_| !path.is_empty());
        parts.path_and_query = Some(path?);
    }
    let uri = http::Uri::from_parts(parts).ok()?;
    let mut request = request.method(method).uri(uri).body(()).ok()?;
    *request.headers_mut() = fields(pieces);
    Some(request.into_parts().0)
}

/// Those that the crate lets through, up to an empty line.
fn fields<'a>(pieces: &mut impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for piece in pieces.take_while(|piece| !piece.is_empty()) {
        let colon = piece.iter().position(|&byte| byte == b':');
        let (name, value) = piece.split_at(colon.unwrap_or(piece.len()));
        let value = value.get(1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            match name.as_str() {
                "connection" | "transfer-encoding" | "upgrade" | "keep-alive"
                | "proxy-connection" => {}
                "te" if value != "trailers" => {}
                _ => drop(fields.append(name, value)),
            }
        }
    }
    fields
}

/// What RFC 9113 (8.3.1, 8.2.3) and RFC 8441 make of it; nothing when it is malformed.
fn wanted(parts: &Parts, has_no_body: bool) -> Option<Wanted> {
    let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
    let is_word = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    if protocol.is_some_and(|text| text.is_empty() || !text.bytes().all(is_word)) {
        return None;
    }
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return None;
    }
    let target = parts.uri.path_and_query().map(PathAndQuery::as_str);
    let (method, target) = match target {
        Some(target) if protocol.is_some() => ("GET", target),
        Some(target) => (parts.method.as_str(), target),
        None => ("CONNECT", "/"),
    };
    let of = |name: &str| -> Vec<Vec<u8>> {
        let values = parts.headers.get_all(name).iter();
        values.map(|value| value.as_bytes().to_vec()).collect()
    };
    let mut hosts = of("host");
    if let Some(authority) = parts.uri.authority() {
        hosts.insert(0, authority.as_str().into());
    }
    let is_one = |pair: &[Vec<u8>]| pair[0].eq_ignore_ascii_case(&pair[1]);
    if of("host").len() > 1 || !hosts.windows(2).all(is_one) {
        return None;
    }
    let mut fields = Vec::new();
    let mut add = |name: &str, value: &[u8]| fields.push((name.into(), value.trim_ascii().into()));
    if let Some(host) = hosts.first() {
        add("host", host);
    }
    for (name, value) in &parts.headers {
        match name.as_str() {
            "host" | "cookie" => {}
            "content-length" | "sec-websocket-key" if protocol.is_some() => {}
            name => add(name, value.as_bytes()),
        }
    }
    let cookies = of("cookie");
    if !cookies.is_empty() {
        add("cookie", &cookies.join(&b"; "[..]));
    }
    if let Some(protocol) = protocol {
        add("connection", b"upgrade");
        add("upgrade", protocol.as_bytes());
    }
    let has_length = !of("content-length").is_empty();
    let is_chunked = protocol.is_none() && !has_no_body && !has_length;
    if is_chunked {
        add("transfer-encoding", b"chunked");
    }
    Some(Wanted {
        words: [method, target, "HTTP/1.1"].map(|word| word.as_bytes().to_vec()),
        fields,
        is_tunnel: protocol.is_some(),
        is_chunked,
    })
}

/// A body's end says what the trailers say, and nothing else.
fn check_trailers(trailers: &HeaderMap) {
    let bytes = last_chunk(Some(trailers));
    let (words, fields) = strict::lines(&bytes).unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(words, [b"0"]);
    let wanted = trailers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().trim_ascii()));
    assert_eq!(fields, wanted.collect::<Vec<_>>());
}
