use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::net::IpAddr;

use crate::Limits;
use crate::buffer::Buffer;
use crate::chunks::Chunks;
use crate::decision::{Decision, Destination};
use crate::field::{Field, elements, number};
use crate::flow::Flow;
use crate::host::normalise;
use crate::lines::Lines;
use crate::refusal::Refusal;

/// Who a request came from, to be told to the upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) ip: IpAddr,
    /// The same, written out.
    pub(crate) address: &'a str,
    pub(crate) scheme: &'static str,
    /// A proxy that knows better who asked.
    pub(crate) is_trusted: bool,
}

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
    pub(crate) expects_continue: bool,
    pub(crate) takes_trailers: bool,
    /// It asks for another protocol, and may.
    pub(crate) upgrades: bool,
}

/// Reads a request's head, and lets `decide` say what becomes of the request. If it passes, writes
/// the head that an upstream gets. The normalised host that it is for goes to `host`.
pub(crate) fn translate<'d>(
    head: &[u8],
    limits: &Limits,
    sender: Sender<'_>,
    host: &mut String,
    out: &mut Buffer,
    decide: impl FnOnce(&Destination<'_>) -> &'d Decision,
) -> Result<(Asked, Flow), Refusal> {
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
        _ => return Err(Refusal::Malformed),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Refusal::Malformed);
    };
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
    let (authority, target) = split_target(target, method)?;
    let written_host = match authority {
        // In absolute form the authority wins over the Host header (RFC 9112, 3.2.2).
        Some(authority) => authority,
        None => std::str::from_utf8(written_host).map_err(|_| Refusal::InvalidHost)?,
    };
    host.clear();
    host.push_str(&normalise(written_host).ok_or(Refusal::InvalidHost)?);

    let decision = decide(&Destination {
        scheme: sender.scheme,
        authority: written_host,
        host,
        target: &target,
        client: sender.ip,
    });
    let route = match decision {
        Decision::Pass(route) => Some(route),
        _ => None,
    };
    let most = route.and_then(|route| route.options.max_body);
    let flow = flow
        .at_most(most.unwrap_or(u64::MAX).min(limits.body_bytes))
        .ok_or(Refusal::BodyTooLarge)?;
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
            if !rest.starts_with('/') {
                out.append(b"/");
            }
            out.append(rest.as_bytes());
        }
    }
    out.append(b" HTTP/1.1\r\nhost: ");
    out.append(written_host.as_bytes());
    out.append(b"\r\n");
    let passes = |field: Field, name: &[u8]| match field {
        Field::Other => !said.is_named(name),
        Field::ContentType | Field::ProxyAuthenticate => !said.is_named(name),
        Field::Trailer => true,
        Field::Claim => sender.is_trusted && is_plain_claim(name),
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
    out.append(b"x-forwarded-for: ");
    let claimed = |name: &'static str| {
        let is_it = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(is_it)
    };
    if sender.is_trusted {
        for before in claimed(FORWARDED_FOR).filter(|field| !field.value.is_empty()) {
            out.append(before.value);
            out.append(b", ");
        }
    }
    out.append(sender.address.as_bytes());
    out.append(b"\r\n");
    for (name, value) in [
        ("x-forwarded-proto", sender.scheme),
        ("x-forwarded-host", written_host),
    ] {
        if !(sender.is_trusted && claimed(name).next().is_some()) {
            out.append(name.as_bytes());
            out.append(b": ");
            out.append(value.as_bytes());
            out.append(b"\r\n");
        }
    }
    if let Some(prefix) = prefix {
        out.append(b"x-forwarded-prefix: ");
        out.append(prefix.as_str().as_bytes());
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
        expects_continue: said.expect.is_some() && is_http11 && !flow.is_done(),
        takes_trailers: said.takes_trailers && is_http11,
        upgrades: protocol.is_some(),
    };
    Ok((asked, flow))
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether a trusted proxy would write it like that: `_` for `-` comes from someone before it.
fn is_plain_claim(name: &[u8]) -> bool {
    !name.contains(&b'_')
        && !name.eq_ignore_ascii_case(b"proxy")
        && !name.eq_ignore_ascii_case(FORWARDED_FOR.as_bytes())
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

/// The authority of a target in absolute form, and the target in origin form.
fn split_target<'a>(
    target: &'a str,
    method: &str,
) -> Result<(Option<&'a str>, Cow<'a, str>), Refusal> {
    if target.contains('#') {
        return Err(Refusal::InvalidTarget);
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((None, Cow::Borrowed(target)));
    }
    let (scheme, rest) = target.split_once("://").ok_or(Refusal::InvalidTarget)?;
    if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        return Err(Refusal::InvalidTarget);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match path.starts_with('/') {
        true => Cow::Borrowed(path),
        false => Cow::Owned(format!("/{path}")),
    };
    Ok((Some(authority), path))
}

/// An upgrade to cleartext HTTP/2 would be a tunnel past the proxy's routes and checks.
fn is_h2c(protocol: &[u8]) -> bool {
    elements(protocol).any(|one| one.len() >= 2 && one[..2].eq_ignore_ascii_case(b"h2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(head: &str) -> Result<(String, Asked), Refusal> {
        translated_from(head, false)
    }

    fn translated_from(head: &str, is_trusted: bool) -> Result<(String, Asked), Refusal> {
        let sender = Sender {
            ip: [192, 0, 2, 1].into(),
            address: "192.0.2.1",
            scheme: "http",
            is_trusted,
        };
        let (mut host, mut out) = (String::new(), Buffer::default());
        let (asked, _) = translate(
            head.as_bytes(),
            &Limits::default(),
            sender,
            &mut host,
            &mut out,
            |_| &Decision::Unknown,
        )?;
        let text = String::from_utf8(out.filled().to_vec()).unwrap();
        Ok((text, asked))
    }

    fn with(fields: &str) -> (String, Asked) {
        translated(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).unwrap()
    }

    const FORWARDED: &str =
        "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a.test\r\n";

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
             Connection: x-forwarded-for\r\n",
        );
        assert_eq!(
            text,
            format!("GET / HTTP/1.1\r\nhost: a.test\r\nX-Real-IP-Not: kept\r\n{FORWARDED}\r\n")
        );
    }

    #[test]
    fn claims_of_trusted_proxies_are_passed_on() {
        let head = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 10.0.0.1\r\n\
                    X-Forwarded-Proto: https\r\nX-Forwarded-For: 10.0.0.2, 10.0.0.3\r\n\
                    X_Forwarded_Host: b\r\nX-Real-IP: 10.0.0.1\r\nProxy: x\r\n\r\n";
        let (text, _) = translated_from(head, true).unwrap();
        assert_eq!(
            text,
            "GET / HTTP/1.1\r\nhost: a.test\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 10.0.0.1\r\n\
             x-forwarded-for: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.1\r\nx-forwarded-host: a.test\r\n\r\n"
        );
    }

    #[test]
    fn upgrades_pass_except_to_http2() {
        let (text, asked) = with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
        assert!(asked.upgrades);
        assert!(text.ends_with("connection: upgrade\r\nupgrade: websocket\r\n\r\n"));
        let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
        let (text, asked) = with(h2c);
        assert!(!asked.upgrades);
        assert!(text.ends_with("host: a.test\r\n\r\n") && !text.contains("HTTP2"));
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
            ("HTTPS://b.test:8?x", "/?x", "b.test:8"),
            ("http://b.test/x://y", "/x://y", "b.test"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let (text, _) = translated(&head).unwrap();
            let begin = format!("GET {line} HTTP/1.1\r\nhost: {host}\r\n");
            assert!(text.starts_with(&begin), "{text}");
        }
    }
}
