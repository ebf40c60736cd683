use std::borrow::Cow;
use std::mem::MaybeUninit;

use crate::buffer::Buffer;
use crate::chunks::Chunks;
use crate::claims::{self, Claims, FORWARDED_PREFIX};
use crate::decision::{Decision, Destination};
use crate::field::{Field, elements, number};
use crate::flow::Flow;
use crate::forwarded::{self, Provenance};
use crate::host::normalise;
use crate::lines::Lines;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::{HeaderName, ProxyConfig};

/// What a request's head says to the proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) is_head: bool,
    /// The same once or twice.
    pub(crate) is_idempotent: bool,
    /// Not the older HTTP/1.0: the client knows chunks and informational responses.
    pub(crate) is_http11: bool,
    /// The client may send another request after this one.
    pub(crate) keep_alive: bool,
    /// It may wait with its body until it is asked for it.
    pub(crate) expects_continue: bool,
    pub(crate) takes_trailers: bool,
    /// It asks for another protocol, and may.
    pub(crate) upgrades: bool,
}

/// Reads a request's head, and lets `decide` say what becomes of the request. If it passes, writes
/// the head that an upstream gets. The normalised host that it is for goes to `host`, and where it
/// comes from to `provenance`, also of one that is refused.
pub(crate) fn translate<'d>(
    head: &[u8],
    config: &ProxyConfig,
    peer: &Peer,
    host: &mut String,
    provenance: &mut Provenance,
    out: &mut Buffer,
    decide: impl FnOnce(&Destination<'_>) -> &'d Decision,
) -> Result<(Asked, Flow), Refusal> {
    *provenance = Provenance::of(peer);
    let limits = &config.limits;
    let mut fields = [const { MaybeUninit::uninit() }; 128];
    let mut more_fields = Vec::new();
    let fields = match fields.get_mut(..limits.headers) {
        Some(fields) => fields,
        None => {
            more_fields.resize_with(limits.headers, MaybeUninit::uninit);
            &mut more_fields[..]
        }
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, fields) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(httparse::Error::Version) if is_of_other_version(head) => {
            return Err(Refusal::Version);
        }
        _ => return Err(Refusal::Malformed),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Refusal::Malformed);
    };
    let claims = peer.is_trusted.then(|| Claims::of(request.headers));
    let client = claims.as_ref().and_then(|claims| claims.client(config));
    // Before anything is refused: that is logged too.
    *provenance = Provenance::claimed(peer, claims.as_ref(), client);
    if target.len() > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    if method == "CONNECT" {
        return Err(Refusal::Connect);
    }
    let is_http11 = version == 1;
    let said = Said::by(request.headers);
    let (framing, flow) = said.body(is_http11)?;
    if said
        .expect
        .is_some_and(|what| !what.eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Refusal::Expectation);
    }
    let written_host = said.host?.ok_or(Refusal::NoHost)?;
    let (absolute, target) = split_target(target, method)?;
    let written_host = match absolute {
        // What is for a secured connection came over one, or by someone who vouches for it
        // (RFC 9110, 7.4).
        Some(("https", _)) if peer.scheme != "https" && !peer.is_trusted => {
            return Err(Refusal::Misdirected);
        }
        // In absolute form the authority wins over the Host header (RFC 9112, 3.2.2).
        Some((_, authority)) => authority,
        None => std::str::from_utf8(written_host).map_err(|_| Refusal::InvalidHost)?,
    };
    host.clear();
    host.push_str(&normalise(written_host).ok_or(Refusal::InvalidHost)?);

    let decision = decide(&Destination {
        scheme: match claims.as_ref().and_then(Claims::proto) {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
            _ => peer.scheme,
        },
        authority: written_host,
        host,
        target: &target,
        client: provenance.client,
    });
    let route = match decision {
        Decision::Pass(route) => Some(route),
        _ => None,
    };
    let claim = config.client_ip_header.as_ref();
    let most = route.and_then(|route| route.options.max_body);
    let mut flow = flow
        .at_most(most.unwrap_or(u64::MAX).min(limits.body_bytes))
        .ok_or(Refusal::BodyTooLarge)?;
    if let (Framing::Chunked, Some(name)) = (&framing, claim) {
        flow = flow.without_trailer(name.clone());
    }
    let protocol = said.upgrade.filter(|protocol| {
        // HTTP/1.0 knows no upgrade.
        said.names_upgrade && is_http11 && !is_h2c(protocol)
    });
    let prefix = route
        .filter(|route| route.options.strip_path)
        .map(|route| &route.path);
    out.append(method.as_bytes());
    out.append(b" ");
    match prefix.and_then(|prefix| prefix.rest(&target)) {
        None => out.append(target.as_bytes()),
        Some(rest) => {
            if !rest.starts_with(['/', '*']) {
                out.append(b"/");
            }
            out.append(rest.as_bytes());
        }
    }
    out.append(b" HTTP/1.1\r\nhost: ");
    out.append(written_host.as_bytes());
    out.append(b"\r\n");
    let is_prefix = |name: &[u8]| name.eq_ignore_ascii_case(FORWARDED_PREFIX.as_bytes());
    let passes = |field: Field, name: &[u8]| match field {
        Field::Other if claim.is_some_and(|claim| claim.is_like(name)) => {
            let is_it = |claim: &HeaderName| name.eq_ignore_ascii_case(claim.as_str().as_bytes());
            peer.is_trusted && claim.is_some_and(is_it)
        }
        Field::Other => !said.is_named(name),
        Field::ContentType | Field::ProxyAuthenticate => !said.is_named(name),
        Field::Trailer => true,
        // The one line for it says both.
        Field::Claim if prefix.is_some() && is_prefix(name) => false,
        Field::Claim => peer.is_trusted && claims::is_passed_on(name),
        _ => false,
    };
    Lines::of(head, request.headers).copy(passes, out);
    match framing {
        Framing::None => {}
        Framing::Length(digits) => {
            out.append(b"content-length: ");
            out.append(digits);
            out.append(b"\r\n");
        }
        Framing::Chunked => out.append(b"transfer-encoding: chunked\r\n"),
    }
    let expects_continue = said.expect.is_some() && is_http11 && !flow.is_done();
    if expects_continue {
        out.append(b"expect: 100-continue\r\n");
    }
    let id = &provenance.id;
    forwarded::tell(peer, claims.as_ref(), client, id, written_host, out);
    if let Some(prefix) = prefix {
        let given = claims.as_ref().and_then(Claims::prefix);
        let given = given.unwrap_or_default();
        out.append(b"x-forwarded-prefix: ");
        out.append(given);
        // What strips nothing adds nothing.
        if given.is_empty() || prefix.as_str() != "/" {
            out.append(prefix.as_str().as_bytes());
        }
        out.append(b"\r\n");
    }
    match (protocol, said.takes_trailers) {
        (Some(protocol), _) => {
            out.append(b"connection: upgrade\r\nupgrade: ");
            out.append(protocol);
            out.append(b"\r\n");
        }
        (None, true) => out.append(b"te: trailers\r\nconnection: te\r\n"),
        (None, false) => {}
    }
    out.append(b"\r\n");
    let asked = Asked {
        is_head: method == "HEAD",
        is_idempotent: matches!(
            method,
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
        ),
        is_http11,
        // With a length beside the chunks, who knows what comes behind them (RFC 9112, 6.1).
        keep_alive: said.keeps_alive(is_http11) && !said.has_both_framings(),
        expects_continue,
        takes_trailers: said.takes_trailers && is_http11,
        upgrades: protocol.is_some(),
    };
    Ok((asked, flow))
}

/// How a head says where its body ends.
enum Framing<'a> {
    None,
    Length(&'a [u8]),
    Chunked,
}

/// The fields that the proxy needs to know.
#[derive(Debug)]
struct Said<'a> {
    host: Result<Option<&'a [u8]>, Refusal>,
    length: Option<&'a [u8]>,
    lengths: usize,
    coding: Option<&'a [u8]>,
    codings: usize,
    expect: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    takes_trailers: bool,
    closes: bool,
    names_keep_alive: bool,
    names_upgrade: bool,
    /// What else `Connection` names.
    named: Vec<&'a [u8]>,
}

impl<'a> Said<'a> {
    fn by(headers: &[httparse::Header<'a>]) -> Said<'a> {
        let mut said = Said {
            host: Ok(None),
            length: None,
            lengths: 0,
            coding: None,
            codings: 0,
            expect: None,
            upgrade: None,
            takes_trailers: false,
            closes: false,
            names_keep_alive: false,
            names_upgrade: false,
            named: Vec::new(),
        };
        for header in headers {
            let value = header.value;
            match Field::of(header.name.as_bytes()) {
                Field::Host if said.host == Ok(None) => said.host = Ok(Some(value)),
                Field::Host => said.host = Err(Refusal::RepeatedHost),
                Field::ContentLength => {
                    said.length = Some(value);
                    said.lengths += 1;
                }
                Field::TransferEncoding => {
                    said.coding = Some(value);
                    said.codings += 1;
                }
                // The worst of several counts.
                Field::Expect
                    if said
                        .expect
                        .is_none_or(|one| one.eq_ignore_ascii_case(value)) =>
                {
                    said.expect = Some(value);
                }
                Field::Expect => said.expect = Some(b""),
                Field::Upgrade => said.upgrade = said.upgrade.or(Some(value)),
                Field::Te => {
                    said.takes_trailers |=
                        elements(value).any(|one| one.eq_ignore_ascii_case(b"trailers"));
                }
                Field::Connection => said.connection(value),
                _ => {}
            }
        }
        said
    }

    fn connection(&mut self, value: &'a [u8]) {
        for name in elements(value) {
            if name.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if name.eq_ignore_ascii_case(b"keep-alive") {
                self.names_keep_alive = true;
            } else if name.eq_ignore_ascii_case(b"upgrade") {
                self.names_upgrade = true;
            } else {
                self.named.push(name);
            }
        }
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.named
            .iter()
            .any(|named| named.eq_ignore_ascii_case(name))
    }

    fn keeps_alive(&self, is_http11: bool) -> bool {
        !self.closes && (is_http11 || self.names_keep_alive)
    }

    fn has_both_framings(&self) -> bool {
        self.lengths > 0 && self.codings > 0
    }

    /// How the upstream is told of the body, and how it gets there.
    fn body(&self, is_http11: bool) -> Result<(Framing<'a>, Flow), Refusal> {
        if self.lengths > 1 {
            return Err(Refusal::ContentLength);
        }
        let length = match self.length {
            None => None,
            Some(digits) => Some((digits, number(digits).ok_or(Refusal::ContentLength)?)),
        };
        match (self.coding, length) {
            (Some(coding), _) => {
                let last = coding
                    .rsplit(|&byte| byte == b',')
                    .next()
                    .unwrap_or_default();
                if !is_http11 || !last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::NotChunked);
                }
                if self.codings > 1 || !coding.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::TransferEncoding);
                }
                let flow = Flow::chunks(Chunks::default(), true, true);
                Ok((Framing::Chunked, flow))
            }
            (None, Some((digits, length))) => Ok((Framing::Length(digits), Flow::length(length))),
            (None, None) => Ok((Framing::None, Flow::length(0))),
        }
    }
}

/// Whether it is a request of HTTP, and of no HTTP/1.
fn is_of_other_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next();
    match line.and_then(<[u8]>::last_chunk) {
        Some([b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) => {
            major.is_ascii_digit() && *major != b'1' && minor.is_ascii_digit()
        }
        _ => false,
    }
}

/// The scheme and the authority of a target in absolute form, and the target in origin form, or
/// `*`.
#[expect(clippy::type_complexity, reason = "it is taken apart at once")]
fn split_target<'a>(
    target: &'a str,
    method: &str,
) -> Result<(Option<(&'static str, &'a str)>, Cow<'a, str>), Refusal> {
    if target.contains('#') {
        return Err(Refusal::InvalidTarget);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((None, Cow::Borrowed(target)));
    }
    let (scheme, rest) = target.split_once("://").ok_or(Refusal::InvalidTarget)?;
    let schemes = ["http", "https"];
    let is_it = |known: &&str| scheme.eq_ignore_ascii_case(known);
    let scheme = schemes.into_iter().find(is_it);
    let scheme = scheme.ok_or(Refusal::InvalidTarget)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match path {
        // It is about the server as a whole (RFC 9112, 3.2.4).
        "" if method == "OPTIONS" => Cow::Borrowed("*"),
        path if path.starts_with('/') => Cow::Borrowed(path),
        query => Cow::Owned(format!("/{query}")),
    };
    Ok((Some((scheme, authority)), path))
}

/// An upgrade to cleartext HTTP/2 would be a tunnel past the proxy's routes and checks.
fn is_h2c(protocol: &[u8]) -> bool {
    elements(protocol).any(|one| one.len() >= 2 && one[..2].eq_ignore_ascii_case(b"h2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(head: &str) -> Result<(String, Asked), Refusal> {
        translated_from(head, &ProxyConfig::default())
    }

    /// All that stands in the head for the upstream, except what no two requests share.
    fn translated_from(head: &str, config: &ProxyConfig) -> Result<(String, Asked), Refusal> {
        let peer = Peer::new(([192, 0, 2, 1], 4711).into(), "http", config);
        let mut provenance = Provenance::of(&peer);
        let (mut host, mut out) = (String::new(), Buffer::default());
        let (asked, _) = translate(
            head.as_bytes(),
            config,
            &peer,
            &mut host,
            &mut provenance,
            &mut out,
            |_| &Decision::Unknown,
        )?;
        let text = String::from_utf8(out.filled().to_vec()).unwrap();
        let id = format!("x-request-id: {}\r\n", provenance.id.as_str());
        let (begin, end) = text.split_once(&id).unwrap();
        let (start, end) = end.split_once("\r\n").unwrap();
        assert!(start.starts_with("x-request-start: "), "{text}");
        Ok((format!("{begin}{end}"), asked))
    }

    fn with(fields: &str) -> (String, Asked) {
        translated(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).unwrap()
    }

    const FORWARDED: &str = "x-forwarded-for: 192.0.2.1\r\nx-real-ip: 192.0.2.1\r\n\
        x-forwarded-proto: http\r\nforwarded: for=192.0.2.1;proto=http;host=a.test\r\n\
        x-forwarded-host: a.test\r\nx-forwarded-port: 80\r\n";

    #[test]
    fn hop_by_hop_and_named_fields_stay_on_their_hop() {
        let (text, asked) = with(
            "Connection: X-Secret, keep-alive, host,content-length\r\nconnection: x-other\r\n\
             X-Secret: 1\r\nX-Kept: 1\r\nX-OTHER: 1\r\nAlso-Kept:  2 \r\nKeep-Alive: timeout=5\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: gzip, chunked\r\n\
             Upgrade: websocket\r\nContent-Length: 3\r\n",
        );
        assert!(!asked.upgrades && asked.keep_alive);
        assert_eq!(
            text,
            format!(
                "GET / HTTP/1.1\r\nhost: a.test\r\nX-Kept: 1\r\nAlso-Kept:  2 \r\n\
                 content-length: 3\r\n{FORWARDED}\r\n"
            )
        );
    }

    #[test]
    fn claims_of_clients_are_replaced() {
        let (text, _) = with(
            "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2\r\nx_forwarded_for: 10.0.0.1\r\n\
             X-Forwarded-Port: 1\r\nX-Forwarded-Proto: https\r\nForwarded: for=10.0.0.1\r\n\
             X-Real-IP: 10.0.0.1\r\nX-Real-IP-Not: kept\r\nProxy: http://6.6.6.6/\r\n\
             X-Request-ID: 6\r\nX_Request_Id: 6\r\nX-Request-Start: 6\r\nx_request_start: 6\r\n\
             Connection: x-forwarded-for, x-request-id\r\n",
        );
        assert_eq!(
            text,
            format!("GET / HTTP/1.1\r\nhost: a.test\r\nX-Real-IP-Not: kept\r\n{FORWARDED}\r\n")
        );
    }

    #[test]
    fn the_header_for_the_clients_address_is_a_claim_where_it_is_known() {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nCF-Connecting-IP: 10.0.0.1\r\n\
                    Connection: cf-connecting-ip\r\nCF_Connecting-IP: 10.0.0.2\r\n\r\n";
        let trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
        let known = ProxyConfig {
            client_ip_header: Some("CF-Connecting-IP".parse().unwrap()),
            ..ProxyConfig::default()
        };
        let (text, _) = translated_from(head, &known).unwrap();
        assert_eq!(
            text,
            format!("GET / HTTP/1.1\r\nhost: a.test\r\n{FORWARDED}\r\n")
        );
        // From whom it is to be, not even `Connection` takes it away.
        let trusted = ProxyConfig {
            trusted_proxies,
            ..known
        };
        let (text, _) = translated_from(head, &trusted).unwrap();
        let begin = "GET / HTTP/1.1\r\nhost: a.test\r\nCF-Connecting-IP: 10.0.0.1\r\nx-";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains("\r\nx-real-ip: 10.0.0.1\r\n"), "{text}");
    }

    #[test]
    fn upgrades_pass_except_to_http2() {
        let (text, asked) = with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
        assert!(asked.upgrades);
        assert!(text.ends_with("connection: upgrade\r\nupgrade: websocket\r\n\r\n"));
        let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
        let (text, asked) = with(h2c);
        assert!(!asked.upgrades);
        assert_eq!(
            text,
            format!("GET / HTTP/1.1\r\nhost: a.test\r\n{FORWARDED}\r\n")
        );
    }

    #[test]
    fn connections_are_kept_as_each_version_has_it() {
        for (version, connection, kept) in [
            ("1.1", "", true),
            ("1.1", "close", false),
            ("1.1", "x, Close", false),
            ("1.0", "", false),
            ("1.0", "Keep-Alive", true),
            ("1.0", "keep-alive, close", false),
        ] {
            let head =
                format!("GET / HTTP/{version}\r\nHost: a.test\r\nConnection: {connection}\r\n\r\n");
            let (_, asked) = translated(&head).unwrap();
            assert_eq!(asked.keep_alive, kept, "{version} {connection}");
        }
        let both = with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n");
        assert!(!both.1.keep_alive && !both.0.contains("content-length"));
        assert!(both.0.contains("transfer-encoding: chunked\r\n"));
    }

    #[test]
    fn trailers_are_asked_for_when_the_client_takes_them() {
        let (text, asked) = with("TE: trailers, deflate;q=0.5\r\n");
        assert!(asked.takes_trailers);
        assert!(text.ends_with("te: trailers\r\nconnection: te\r\n\r\n"));
    }

    #[test]
    fn targets_reach_the_upstream_in_origin_form() {
        for (target, line, host) in [
            ("/a/../b?x=%2F&y=ä", "/a/../b?x=%2F&y=ä", "a.test"),
            ("http://B.test", "/", "B.test"),
            ("HTTP://b.test:8?x", "/?x", "b.test:8"),
            ("http://b.test/x://y", "/x://y", "b.test"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let (text, _) = translated(&head).unwrap();
            let begin = format!("GET {line} HTTP/1.1\r\nhost: {host}\r\n");
            assert!(text.starts_with(&begin), "{text}");
        }
    }

    #[test]
    fn options_without_a_path_are_of_the_server_as_a_whole() {
        for (target, line) in [
            ("http://a.test", "*"),
            ("HTTP://a.test:80", "*"),
            ("*", "*"),
            ("http://a.test/", "/"),
            ("http://a.test?x", "/?x"),
            ("/", "/"),
        ] {
            let head = format!("OPTIONS {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let (text, _) = translated(&head).unwrap();
            let begin = format!("OPTIONS {line} HTTP/1.1\r\n");
            assert!(text.starts_with(&begin), "{target}: {text}");
        }
        let head = "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(translated(head).unwrap_err(), Refusal::InvalidTarget);
    }

    #[test]
    fn what_is_for_a_secured_connection_comes_over_one_or_through_a_trusted_proxy() {
        let head = "GET HTTPS://b.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(translated(head).unwrap_err(), Refusal::Misdirected);
        let trusted = ProxyConfig {
            trusted_proxies: vec!["192.0.2.1".parse().unwrap()],
            ..ProxyConfig::default()
        };
        let (text, _) = translated_from(head, &trusted).unwrap();
        assert!(
            text.starts_with("GET /x HTTP/1.1\r\nhost: b.test\r\n"),
            "{text}"
        );
    }

    #[test]
    fn another_major_version_is_not_just_malformed() {
        for (version, refusal) in [
            ("HTTP/2.0", Refusal::Version),
            ("HTTP/3.0", Refusal::Version),
            ("HTTP/0.9", Refusal::Version),
            ("HTTP/1.2", Refusal::Malformed),
            ("HTTP/2", Refusal::Malformed),
            ("HTTP/x.0", Refusal::Malformed),
            ("ICAP/2.0", Refusal::Malformed),
        ] {
            let head = format!("GET / {version}\r\nHost: a.test\r\n\r\n");
            assert_eq!(translated(&head).unwrap_err(), refusal, "{version}");
        }
    }
}
