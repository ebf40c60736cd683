use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, StatusCode};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who a request came from, to be told to the upstream.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) address: &'a HeaderValue,
    pub(crate) scheme: &'static str,
}

/// Makes a client's headers those of a request to an upstream. `host` replaces the Host header.
/// Gives the protocol that the client wants to switch to, if any and if it may.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    host: HeaderValue,
    sender: &Sender<'_>,
    may_upgrade: bool,
) -> Option<HeaderValue> {
    let trailers = headers.get_all(TE).iter().any(accepts_trailers);
    let upgrade = strip_hop_by_hop(headers).filter(|protocol| may_upgrade && !is_h2c(protocol));
    headers.remove(HTTP2_SETTINGS);
    headers.remove(PROXY_AUTHORIZATION);
    // The proxy itself answers 100 as soon as the upstream wants the body.
    headers.remove(EXPECT);
    strip_claims(headers);
    headers.insert(X_FORWARDED_FOR, sender.address.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(sender.scheme));
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(HOST, host);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocol) = &upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    upgrade
}

/// Makes an upstream's headers those of a response to a client. Its framing is decided anew.
pub(crate) fn prepare_response(headers: &mut HeaderMap, status: StatusCode) {
    // It says what to upgrade to, and must (RFC 9110, 15.5.22).
    let required = match status {
        StatusCode::UPGRADE_REQUIRED => headers.get(UPGRADE).cloned(),
        _ => None,
    };
    strip_hop_by_hop(headers);
    if let Some(protocol) = required {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    headers.remove(PROXY_AUTHENTICATE);
    if headers.remove(TRANSFER_ENCODING).is_some() {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Makes the headers of an upstream's `101` those of the answer to a client.
pub(crate) fn prepare_switch(headers: &mut HeaderMap) {
    if let Some(protocol) = strip_hop_by_hop(headers) {
        headers.insert(UPGRADE, protocol);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Whether a message has a transfer coding that would reach the other side undone.
pub(crate) fn is_chunked_at_most(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match codings.next() {
        None => true,
        Some(one) => codings.next().is_none() && one.as_bytes().eq_ignore_ascii_case(b"chunked"),
    }
}

/// Makes the length that a response announces one number, as also `5, 5` means. `false` when it is
/// none: hyper checks only those that it needs, and passes all on as they are.
pub(crate) fn normalise_length(headers: &mut HeaderMap) -> bool {
    let mut lengths = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(|length| number(length.trim_ascii()));
    let Some(first) = lengths.next() else {
        return true;
    };
    let is_list = lengths
        .next()
        .map(|second| second == first && lengths.all(|other| other == first));
    match (first, is_list) {
        (Some(_), None) => true,
        (Some(length), Some(true)) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            true
        }
        _ => false,
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    // A sign would be understood too.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Removes what is for one connection only, and gives the `Upgrade` if `Connection` names it.
/// `Transfer-Encoding` stays: it was checked, and tells hyper that there is a body.
fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let named = connection_names(headers);
    let upgrade = headers.remove(UPGRADE);
    headers.remove(CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TE);
    for name in &named {
        // Naming these would change where the message goes or where it ends.
        if name != HOST && name != CONTENT_LENGTH && name != TRANSFER_ENCODING && name != TRAILER {
            headers.remove(name);
        }
    }
    upgrade.filter(|_| named.contains(&UPGRADE))
}

fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| {
            !name.eq_ignore_ascii_case(b"keep-alive") && !name.eq_ignore_ascii_case(b"close")
        })
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect()
}

/// Removes what clients say about who they are: nobody vouches for it. Names with `_` count too,
/// since CGI and WSGI servers take `X_Forwarded_For` and `X-Forwarded-For` for the same. They also
/// take `Proxy` for the variable that names a proxy for what they request themselves (httpoxy).
pub(crate) fn strip_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        let begins = |prefix: &[u8]| {
            name.len() >= prefix.len()
                && name
                    .iter()
                    .zip(prefix)
                    .all(|(&byte, &wanted)| byte == wanted || (byte == b'_' && wanted == b'-'))
        };
        match name.first() {
            Some(b'x') => begins(b"x-forwarded-") || (name.len() == 9 && begins(b"x-real-ip")),
            Some(b'f') => name == b"forwarded",
            Some(b'p') => name == b"proxy",
            _ => false,
        }
    };
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_claim(name))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
}

fn accepts_trailers(te: &HeaderValue) -> bool {
    te.as_bytes()
        .split(|&byte| byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Server-sent events: a response that goes on until one side leaves.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().split(|byte| *byte == b';').next());
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// An upgrade to cleartext HTTP/2 would be a tunnel past the proxy's routes and checks.
fn is_h2c(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().split(|&byte| byte == b',').any(|one| {
        let one = one.trim_ascii();
        one.len() >= 2 && one[..2].eq_ignore_ascii_case(b"h2")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn request(fields: &[(&'static str, &'static str)]) -> (HeaderMap, Option<HeaderValue>) {
        let mut headers = map(fields);
        let sender = Sender {
            address: &HeaderValue::from_static("192.0.2.1"),
            scheme: "http",
        };
        let upgrade = prepare_request(
            &mut headers,
            HeaderValue::from_static("a.test"),
            &sender,
            true,
        );
        (headers, upgrade)
    }

    #[test]
    fn hop_by_hop_and_named_headers_stay_on_their_hop() {
        let (headers, upgrade) = request(&[
            ("host", "old.test"),
            ("connection", "X-Secret, keep-alive, host,content-length"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-kept", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, chunked"),
            ("upgrade", "websocket"),
            ("content-length", "3"),
        ]);
        assert_eq!(upgrade, None);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "content-length",
                "host",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-kept"
            ]
        );
        assert_eq!(headers["host"], "a.test");
    }

    #[test]
    fn claims_of_clients_are_replaced() {
        let (headers, _) = request(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("x-real-ip-not", "kept"),
            ("proxy", "http://6.6.6.6/"),
            // Naming them does not take them away from the upstream either.
            ("connection", "x-forwarded-for"),
        ]);
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers.len(), 5, "{headers:?}");
    }

    #[test]
    fn upgrades_pass_except_to_http2() {
        let (headers, upgrade) = request(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert_eq!(upgrade.unwrap(), "websocket");
        assert_eq!(headers["connection"], "upgrade");
        let (headers, upgrade) = request(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQ"),
        ]);
        assert_eq!(upgrade, None);
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"));
    }

    #[test]
    fn a_length_is_one_number_or_none() {
        for (lengths, normal) in [
            (&["5"][..], Some("5")),
            (&["5, 5"], Some("5")),
            (&["5", "5,5"], Some("5")),
            (&["5, 6"], None),
            (&["5", "6"], None),
            (&["+5"], None),
            (&["5,"], None),
            (&[""], None),
            (&["x"], None),
            (&["-1"], None),
            (&["18446744073709551616"], None),
        ] {
            let fields: Vec<_> = lengths.iter().map(|&one| ("content-length", one)).collect();
            let mut headers = map(&fields);
            assert_eq!(
                normalise_length(&mut headers),
                normal.is_some(),
                "{lengths:?}"
            );
            if let Some(normal) = normal {
                let all: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
                assert_eq!(all, [normal]);
            }
        }
        assert!(normalise_length(&mut HeaderMap::new()));
    }

    #[test]
    fn trailers_are_asked_for_when_the_client_takes_them() {
        let (headers, _) = request(&[("te", "trailers, deflate;q=0.5")]);
        assert_eq!(headers["te"], "trailers");
    }
}
