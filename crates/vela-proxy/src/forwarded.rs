use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::buffer::Buffer;
use crate::claims::{Claims, FORWARDED_FOR};
use crate::node::Node;
use crate::peer::Peer;
use crate::request_id::RequestId;

/// Where a request comes from.
#[derive(Debug)]
pub(crate) struct Provenance {
    /// Who asked, as far as is known: the peer, or the one for whom a trusted peer asks.
    pub(crate) client: IpAddr,
    pub(crate) id: RequestId,
}

impl Provenance {
    pub(crate) fn of(peer: &Peer) -> Provenance {
        Provenance {
            client: peer.ip,
            id: RequestId::default(),
        }
    }

    /// What a trusted peer's `claims` make of it, who asks for `client`.
    pub(crate) fn claimed(
        peer: &Peer,
        claims: Option<&Claims<'_, '_>>,
        client: Option<Node<'_>>,
    ) -> Provenance {
        let given = claims.and_then(|claims| RequestId::given(claims.only("x-request-id")?));
        Provenance {
            client: client.map_or(peer.ip, |client| client.ip),
            id: given.unwrap_or_else(RequestId::random),
        }
    }
}

/// Tells an upstream of a request's provenance, by all the fields that servers look at. `claims`
/// are those of a trusted peer, and `client` the one that it asks for.
pub(crate) fn tell(
    peer: &Peer,
    claims: Option<&Claims<'_, '_>>,
    client: Option<Node<'_>>,
    id: &RequestId,
    authority: &str,
    out: &mut Buffer,
) {
    match claims {
        None => tell_of_peer(peer, authority, out),
        Some(claims) => tell_of_client(peer, claims, client, authority, out),
    }
    out.append(b"x-request-id: ");
    out.append(id.as_bytes());
    match claims.and_then(|claims| begin_given(claims.only("x-request-start")?)) {
        Some(begin) => {
            out.append(b"\r\nx-request-start: ");
            out.append(begin);
            out.append(b"\r\n");
        }
        None => {
            let mut line = *b"\r\nx-request-start: 0000000000000\r\n";
            let at = line.len() - 2 - NOW;
            line[at..at + NOW].copy_from_slice(&now());
            out.append(&line);
        }
    }
}

fn tell_of_peer(peer: &Peer, authority: &str, out: &mut Buffer) {
    out.append(peer.introduction().as_bytes());
    let authority = Authority::of(authority);
    authority.append_value(out);
    out.append(b"\r\nx-forwarded-host: ");
    out.append(authority.text.as_bytes());
    out.append(b"\r\nx-forwarded-port: ");
    out.append(authority.port(peer.scheme).as_bytes());
    out.append(b"\r\n");
}

fn tell_of_client(
    peer: &Peer,
    claims: &Claims<'_, '_>,
    client: Option<Node<'_>>,
    authority: &str,
    out: &mut Buffer,
) {
    out.append(b"x-forwarded-for: ");
    if claims.lists_path {
        for value in claims
            .values(FORWARDED_FOR)
            .filter(|value| !value.is_empty())
        {
            out.append(value);
            out.append(b", ");
        }
    } else {
        for node in claims.path() {
            out.append(node.map_or("unknown", |node| node.text).as_bytes());
            out.append(b", ");
        }
    }
    out.append(peer.address().as_bytes());
    out.append(b"\r\nx-real-ip: ");
    let client = client.map_or(peer.address(), |client| client.text);
    out.append(client.as_bytes());
    out.append(b"\r\n");

    let proto = claims.proto().unwrap_or(peer.scheme);
    let host = Authority::of(claims.host().unwrap_or(authority));
    for (name, value) in [
        ("x-forwarded-proto", proto),
        ("x-forwarded-host", host.text),
        ("x-forwarded-port", host.port(proto)),
    ] {
        // Those of the peer have been passed on.
        if !claims.has(name) {
            out.append(name.as_bytes());
            out.append(b": ");
            out.append(value.as_bytes());
            out.append(b"\r\n");
        }
    }

    // Scheme and host are those of the client's own request, so they are told once: there are
    // servers that go by the first element, and servers that go by the last.
    let mut says_proto = claims.forwarded_says(|element| element.proto);
    let mut says_host = claims.forwarded_says(|element| element.host);
    out.append(b"forwarded: ");
    let mut has_forwarded = false;
    for value in claims.forwarded() {
        has_forwarded = true;
        out.append(value);
        out.append(b", ");
    }
    let mut add = |node: &str, separator: &[u8], out: &mut Buffer| {
        out.append(b"for=");
        append_node(node, out);
        if !std::mem::replace(&mut says_proto, true) {
            out.append(b";proto=");
            out.append(proto.as_bytes());
        }
        if !std::mem::replace(&mut says_host, true) {
            out.append(b";host=");
            host.append_value(out);
        }
        out.append(separator);
    };
    if !has_forwarded {
        for node in claims.path() {
            add(node.map_or("unknown", |node| node.text), b", ", out);
        }
    }
    add(peer.address(), b"\r\n", out);
}

fn append_node(node: &str, out: &mut Buffer) {
    match node.contains(':') {
        false => out.append(node.as_bytes()),
        true => {
            out.append(b"\"[");
            out.append(node.as_bytes());
            out.append(b"]\"");
        }
    }
}

/// A valid host, perhaps with a port.
#[derive(Clone, Copy)]
struct Authority<'a> {
    text: &'a str,
    port: Option<&'a str>,
    has_colon: bool,
}

impl<'a> Authority<'a> {
    fn of(text: &'a str) -> Authority<'a> {
        let digits = text.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (host, port) = text.split_at(text.len() - digits);
        let names_port = host.ends_with(':');
        Authority {
            text,
            port: Some(port).filter(|port| names_port && !port.is_empty()),
            has_colon: names_port || text.starts_with('['),
        }
    }

    /// The port that the client asks. The one that the proxy listens on may be another, behind a
    /// firewall that maps it.
    fn port(&self, scheme: &str) -> &'a str {
        match self.port {
            Some(port) => port,
            None if scheme == "https" => "443",
            None => "80",
        }
    }

    /// As a value in `Forwarded`: one with a colon is no token, and stands in quotes.
    fn append_value(&self, out: &mut Buffer) {
        if self.has_colon {
            out.append(b"\"");
        }
        out.append(self.text.as_bytes());
        if self.has_colon {
            out.append(b"\"");
        }
    }
}

/// When a trusted proxy says that the request came to it. They write it in many ways.
fn begin_given(value: &[u8]) -> Option<&[u8]> {
    let is_sane = (1..=64).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    is_sane.then_some(value)
}

/// Milliseconds since the epoch, as Heroku's router tells them.
fn now() -> [u8; NOW] {
    // A clock that stands before 1970 is not worth more than a wrong time.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let mut all = [0; NOW];
    // In parts that need not wait for each other.
    decimal((seconds / 100_000) as u32, &mut all[..5]);
    decimal((seconds % 100_000) as u32, &mut all[5..10]);
    decimal(millis, &mut all[10..]);
    all
}

/// Enough digits until the year 2286.
const NOW: usize = 13;

#[inline]
fn decimal(mut number: u32, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProxyConfig;

    fn config() -> ProxyConfig {
        ProxyConfig {
            trusted_proxies: ["10.0.0.0/8", "2001:db8:a::/48"]
                .map(|one| one.parse().unwrap())
                .into(),
            client_ip_header: Some("Client-IP".parse().unwrap()),
            ..ProxyConfig::default()
        }
    }

    /// What an upstream is told about a request with these fields, without what is told it each
    /// time anew, and who asked.
    fn told(peer: &str, fields: &str) -> (String, IpAddr) {
        let config = config();
        let peer = Peer::new((peer.parse::<IpAddr>().unwrap(), 1).into(), "http", &config);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let fields = format!("{fields}\r\n");
        let parsed = httparse::parse_headers(fields.as_bytes(), &mut headers).unwrap();
        let httparse::Status::Complete((_, headers)) = parsed else {
            panic!("{fields}");
        };
        let claims = peer.is_trusted.then(|| Claims::of(headers));
        let client = claims.as_ref().and_then(|claims| claims.client(&config));
        let mut out = Buffer::default();
        let id = RequestId::random();
        tell(&peer, claims.as_ref(), client, &id, "a.test:81", &mut out);
        let text = String::from_utf8(out.filled().to_vec()).unwrap();
        let end = text.find("x-request-id: ").unwrap();
        let client = client.map_or(peer.ip, |client| client.ip);
        (text[..end].to_owned(), client)
    }

    fn line(told: &str, name: &str) -> String {
        let begin = format!("{name}: ");
        let mut lines = told.lines().filter_map(|line| line.strip_prefix(&begin));
        let line = lines.next().unwrap_or_else(|| panic!("{name} in {told}"));
        assert_eq!(lines.next(), None, "{told}");
        line.to_owned()
    }

    #[test]
    fn a_client_that_is_no_proxy_is_told_of_alone() {
        let (text, client) = told(
            "::ffff:192.0.2.1",
            "Forwarded: for=6.6.6.6\r\nClient-IP: 6.6.6.6\r\n",
        );
        assert_eq!(client, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(
            text,
            "x-forwarded-for: 192.0.2.1\r\nx-real-ip: 192.0.2.1\r\nx-forwarded-proto: http\r\n\
             forwarded: for=192.0.2.1;proto=http;host=\"a.test:81\"\r\n\
             x-forwarded-host: a.test:81\r\nx-forwarded-port: 81\r\n"
        );
        let (text, _) = told("2001:db8::1", "");
        assert!(text.starts_with("x-forwarded-for: 2001:db8::1\r\nx-real-ip: 2001:db8::1\r\n"));
        assert!(line(&text, "forwarded").starts_with("for=\"[2001:db8::1]\";proto=http;"));
    }

    #[test]
    fn the_client_is_the_nearest_one_that_no_trusted_proxy_is() {
        for (fields, client) in [
            ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", "192.0.2.1"),
            (
                "X-Forwarded-For: 6.6.6.6, 192.0.2.1 ,10.0.0.3,\r\n",
                "192.0.2.1",
            ),
            (
                "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1:99\r\n",
                "192.0.2.1",
            ),
            (
                "X-Forwarded-For: [2001:db8::1]:9, 2001:db8:a::2\r\n",
                "2001:db8::1",
            ),
            // The request began at a trusted proxy.
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"),
            // What can't be understood, or nobody vouches for.
            ("X-Forwarded-For: 6.6.6.6, unknown\r\n", "10.0.0.1"),
            ("X-Forwarded-For: 6.6.6.6, x, 10.0.0.3\r\n", "10.0.0.1"),
            ("X-Forwarded-For: x, 192.0.2.1\r\n", "192.0.2.1"),
            (
                "X_Forwarded_For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n",
                "10.0.0.1",
            ),
            ("", "10.0.0.1"),
            // `Forwarded` is for those who have nothing else.
            (
                "Forwarded: for=6.6.6.6, For=\"192.0.2.1:8\", for=10.0.0.3\r\n",
                "192.0.2.1",
            ),
            (
                "Forwarded: for=6.6.6.6\r\nForwarded: for=192.0.2.1\r\n",
                "192.0.2.1",
            ),
            ("Forwarded: for=6.6.6.6, for=_x\r\n", "10.0.0.1"),
            ("Forwarded: for=6.6.6.6, by=192.0.2.1\r\n", "10.0.0.1"),
            ("Forwarded: for=\"6.6.6.6, for=192.0.2.1\r\n", "10.0.0.1"),
            (
                "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n",
                "192.0.2.1",
            ),
            (
                "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: ,\r\n",
                "192.0.2.1",
            ),
            // The header that is known to tell it.
            (
                "Client-IP: 192.0.2.1\r\nX-Forwarded-For: 6.6.6.6\r\n",
                "192.0.2.1",
            ),
            (
                "Client-IP: 10.0.0.9\r\nX-Forwarded-For: 6.6.6.6\r\n",
                "10.0.0.9",
            ),
            (
                "Client-IP: 6.6.6.6, 6.6.6.7\r\nX-Forwarded-For: 6.6.6.6\r\n",
                "10.0.0.1",
            ),
            ("Client-IP: 6.6.6.6\r\nClient-IP: 6.6.6.7\r\n", "10.0.0.1"),
            ("Client-IP:\r\nX-Forwarded-For: 6.6.6.6\r\n", "10.0.0.1"),
            ("Client_IP: 6.6.6.6\r\n", "10.0.0.1"),
        ] {
            let (text, known) = told("10.0.0.1", fields);
            assert_eq!(known, client.parse::<IpAddr>().unwrap(), "{fields}");
            assert_eq!(line(&text, "x-real-ip"), client, "{fields}");
            assert_eq!(told("192.0.2.9", fields).1, IpAddr::from([192, 0, 2, 9]));
        }
    }

    #[test]
    fn both_ways_to_tell_the_path_agree() {
        for (fields, list, forwarded) in [
            ("", "10.0.0.1", "for=10.0.0.1;proto=http;host=\"a.test:81\""),
            (
                "X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-For: x, 10.0.0.3:8\r\n",
                "2001:db8::1, x, 10.0.0.3:8, 10.0.0.1",
                "for=\"[2001:db8::1]\";proto=http;host=\"a.test:81\", for=unknown, for=10.0.0.3, for=10.0.0.1",
            ),
            (
                "Forwarded: for=\"[2001:db8::1]:8\";by=10.0.0.3, for=_x\r\nForwarded: for=10.0.0.3\r\n",
                "2001:db8::1, unknown, 10.0.0.3, 10.0.0.1",
                "for=\"[2001:db8::1]:8\";by=10.0.0.3, for=_x, for=10.0.0.3, \
                 for=10.0.0.1;proto=http;host=\"a.test:81\"",
            ),
            // What has no end ends here.
            (
                "Forwarded: for=192.0.2.1\r\nForwarded: for=\"6\r\n",
                "10.0.0.1",
                "for=10.0.0.1;proto=http;host=\"a.test:81\"",
            ),
            (
                "Forwarded: for=192.0.2.7;host=b.test\r\nX-Forwarded-For: 192.0.2.1\r\n",
                "192.0.2.1, 10.0.0.1",
                "for=192.0.2.1;proto=http;host=\"a.test:81\", for=10.0.0.1",
            ),
        ] {
            let (text, _) = told("10.0.0.1", fields);
            assert_eq!(line(&text, "x-forwarded-for"), list, "{fields}");
            assert_eq!(line(&text, "forwarded"), forwarded, "{fields}");
        }
    }

    #[test]
    fn scheme_host_and_port_are_those_that_the_client_asked() {
        // What is not added is passed on.
        let of = |text: &str| {
            ["proto", "host", "port"].map(|name| {
                let begin = format!("x-forwarded-{name}: ");
                let line = text.lines().find_map(|line| line.strip_prefix(&begin));
                line.unwrap_or("-").to_owned()
            })
        };
        for (fields, added, forwarded) in [
            (
                "X-Forwarded-Proto: https\r\n",
                ["-", "a.test:81", "81"],
                ";proto=https;host=\"a.test:81\"",
            ),
            (
                "X-Forwarded-Proto: https, http\r\nX-Forwarded-Host: b.test\r\n",
                ["-", "-", "443"],
                ";proto=https;host=b.test",
            ),
            (
                "X-Forwarded-Host: [::1]\r\nX-Forwarded-Port: 8\r\n",
                ["http", "-", "-"],
                ";proto=http;host=\"[::1]\"",
            ),
            (
                "X-Forwarded-Host: [::1]:\r\n",
                ["http", "-", "80"],
                ";proto=http;host=\"[::1]:\"",
            ),
            (
                "Forwarded: proto=https;host=b.test\r\n",
                ["https", "b.test", "443"],
                "",
            ),
            // What would end a line, a quote or an element is not taken over.
            (
                "X-Forwarded-Proto: a;b\r\nX-Forwarded-Host: \"b\r\n",
                ["-", "-", "81"],
                ";proto=http;host=\"a.test:81\"",
            ),
            // A client knows its own address, and may have written this itself.
            (
                "Forwarded: for=192.0.2.1;proto=https;host=b.test\r\nX-Forwarded-For: 192.0.2.1\r\n",
                ["http", "a.test:81", "81"],
                "",
            ),
        ] {
            let (text, _) = told("10.0.0.1", fields);
            assert_eq!(of(&text), added, "{fields}");
            let end = format!("for=10.0.0.1{forwarded}");
            assert!(line(&text, "forwarded").ends_with(&end), "{text}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_when_a_request_began_and_what_it_is_called() {
        let told = |peer: [u8; 4], fields: &[(&'static str, &'static str)]| {
            let peer = Peer::new((peer, 1).into(), "http", &config());
            let headers: Vec<_> = fields
                .iter()
                .map(|(name, value)| httparse::Header {
                    name,
                    value: value.as_bytes(),
                })
                .collect();
            let claims = peer.is_trusted.then(|| Claims::of(&headers));
            let mut out = Buffer::default();
            let id = Provenance::claimed(&peer, claims.as_ref(), None).id;
            tell(&peer, claims.as_ref(), None, &id, "a.test", &mut out);
            let text = String::from_utf8(out.filled().to_vec()).unwrap();
            assert_eq!(line(&text, "x-request-id"), id.as_str());
            (line(&text, "x-request-id"), line(&text, "x-request-start"))
        };
        let given = [("X-Request-Id", "abc"), ("X-Request-Start", "t=1.5")];
        assert_eq!(told([10, 0, 0, 1], &given), ("abc".into(), "t=1.5".into()));
        let long = "a".repeat(200).leak();
        for (peer, fields) in [
            ([192, 0, 2, 1], &given[..]),
            ([10, 0, 0, 1], &[]),
            (
                [10, 0, 0, 1],
                &[("X-Request-ID", "a b"), ("X-Request-Start", "1 2")],
            ),
            (
                [10, 0, 0, 1],
                &[("X-Request-ID", long), ("X-Request-Start", long)],
            ),
            ([10, 0, 0, 1], &[given[0], given[0], given[1], given[1]]),
        ] {
            let millis = || {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                since.as_millis()
            };
            let before = millis();
            let (id, start) = told(peer, fields);
            assert!(
                id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{id}"
            );
            assert!(
                (before..=millis()).contains(&start.parse().unwrap()),
                "{start}"
            );
        }
    }
}
