//! Where Vela is meant to do otherwise than the oracles, and where the standards say that it may.

use crate::lane::Outcome;
use crate::request::{Request, has_bare_line_feed};

/// A refusal of Vela's that is meant, though both oracles pass the request on.
pub(crate) struct Stricter {
    /// Where the standards say so.
    pub(crate) rfc: &'static str,
    /// What Vela's page says.
    says: &'static str,
    /// Whether a request that was refused is one of these.
    is_it: fn(&Request<'_>) -> bool,
}

const MALFORMED: &str = "400 Bad Request\nthe request is malformed\n";
const BODY: &str = "400 Bad Request\nthe request's body ended early or is malformed\n";

pub(crate) const STRICTER: &[Stricter] = &[
    Stricter {
        // A recipient MAY take a lone LF for the end of a line; who does not is never of another mind than the app.
        rfc: "RFC 9112, 2.2",
        says: MALFORMED,
        is_it: |case| {
            let ahead = case.bytes.len() - case.bytes.trim_ascii_start().len();
            has_bare_line_feed(case.head) || has_bare_line_feed(&case.bytes[..ahead])
        },
    },
    Stricter {
        rfc: "RFC 9112, 2.2 and 7.1: chunk lines end with CRLF",
        says: BODY,
        is_it: |case| case.has_bare_end || has_bare_line_feed(case.bytes),
    },
    Stricter {
        // One SP each; other whitespace MAY be taken for one, and a line SHOULD be refused that is no request line.
        rfc: "RFC 9112, 3",
        says: MALFORMED,
        is_it: |case| case.line.windows(2).any(|two| two == b"  ") || case.line.contains(&b'\t'),
    },
    Stricter {
        // What is no target at all SHOULD be answered 400. Others than UTF-8 cannot be held as text.
        rfc: "RFC 9112, 3.2",
        says: MALFORMED,
        is_it: |case| std::str::from_utf8(case.target()).is_err(),
    },
    Stricter {
        // An https target that came unsecured SHOULD be answered 421.
        rfc: "RFC 9110, 7.4",
        says: "421 Misdirected Request\nwhat is at an https address must be asked for over a secured connection\n",
        is_it: |case| case.target().to_ascii_lowercase().starts_with(b"https://"),
    },
    Stricter {
        // A later minor version would be answered as 1.1 is: there is none, and will be none.
        rfc: "RFC 9112, 2.3",
        says: MALFORMED,
        is_it: |case| {
            let version = case.line.rsplit(|&byte| byte == b' ').next();
            version.is_some_and(|version| {
                version.starts_with(b"HTTP/1.") && version != b"HTTP/1.1" && version != b"HTTP/1.0"
            })
        },
    },
    Stricter {
        // Other control characters than NUL, CR and LF MAY be kept within a value.
        rfc: "RFC 9110, 5.5",
        says: MALFORMED,
        is_it: |case| {
            case.head
                .iter()
                .any(|byte| byte.is_ascii_control() && !b"\r\n\t".contains(byte))
        },
    },
    Stricter {
        // HTTP/1.0 has no Host. Nothing can be routed without one.
        rfc: "RFC 9112, 3.2",
        says: "400 Bad Request\nthe request has no Host header\n",
        is_it: |case| case.values(b"host").is_empty() && case.line.ends_with(b"HTTP/1.0"),
    },
    Stricter {
        // An invalid Host is answered 400.
        rfc: "RFC 9112, 3.2",
        says: "400 Bad Request\nthe Host is not a host name\n",
        is_it: |case| case.values(b"host").iter().any(|host| !is_host(host)),
    },
    Stricter {
        // An expectation that is not known MAY be answered 417.
        rfc: "RFC 9110, 10.1.1",
        says: "417 Expectation Failed\nthe only Expect that is understood is 100-continue\n",
        is_it: |case| {
            case.values(b"expect")
                .iter()
                .any(|what| !what.eq_ignore_ascii_case(b"100-continue"))
        },
    },
    Stricter {
        // Longer targets, which a server MAY refuse.
        rfc: "RFC 9112, 3",
        says: "414 URI Too Long\nthe request's target is too long\n",
        is_it: |case| case.line.len() > 16 * 1024,
    },
    Stricter {
        // More or longer fields than a server wishes to process.
        rfc: "RFC 9110, 5.4",
        says: "431 Request Header Fields Too Large\nthe request has too many or too long headers\n",
        is_it: |case| {
            case.head.len() > 64 * 1024
                || case.head.iter().filter(|&&byte| byte == b'\n').count() > 100
        },
    },
    Stricter {
        // Extensions ought to be limited.
        rfc: "RFC 9112, 7.1.1",
        says: BODY,
        is_it: |case| case.sizes.iter().any(|line| line.len() > 1023),
    },
    Stricter {
        // Whitespace behind a size is bad whitespace, which a sender MUST NOT make; and no control character may be in
        // an extension.
        rfc: "RFC 9112, 7.1.1",
        says: BODY,
        is_it: |case| {
            case.sizes.iter().any(|line| {
                let behind = line.trim_ascii_end().len()..line.len() - 1;
                let is_padded = line[behind].iter().any(|byte| b" \t".contains(byte));
                let is_odd = |byte: &u8| *byte == b' ' || byte.is_ascii_control();
                is_padded || line.trim_ascii_end().iter().any(is_odd)
            })
        },
    },
    Stricter {
        // As many digits as a size of 64 bits has: who counts leading zeros with them overflows at no other place.
        rfc: "RFC 9112, 7.1",
        says: BODY,
        is_it: |case| {
            case.sizes.iter().any(|line| {
                line.iter()
                    .take_while(|byte| byte.is_ascii_hexdigit())
                    .count()
                    > 16
            })
        },
    },
    Stricter {
        // A trailer section is header lines: none is folded.
        rfc: "RFC 9112, 5.2",
        says: BODY,
        is_it: |case| {
            let mut lines = case
                .trailers
                .split(|&byte| byte == b'\n')
                .take_while(|line| line.len() > 1);
            lines.any(|line| b" \t".contains(&line[0]))
        },
    },
    Stricter {
        // As in a head.
        rfc: "RFC 9110, 5.5, in trailers",
        says: BODY,
        is_it: |case| {
            let mut lines = case
                .trailers
                .split(|&byte| byte == b'\n')
                .take_while(|line| line.len() > 1);
            let is_odd = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            lines.any(|line| line.trim_ascii_end().iter().any(is_odd))
        },
    },
    Stricter {
        // Chunks that nobody wants are not read to their end: a server may close after any answer.
        rfc: "RFC 9112, 9.6",
        says: "404 Not Found\nnothing is served at this host\n",
        is_it: |case| !case.values(b"transfer-encoding").is_empty(),
    },
];

/// The row that a refusal of Vela's is one of, as a number.
pub(crate) fn stricter(refused: &[u8], vela: &Outcome) -> Option<usize> {
    let request = Request::of(refused);
    STRICTER
        .iter()
        .position(|one| says(vela, one.says) && (one.is_it)(&request))
}

/// Whether a text is Vela's last page, or its status, where the page has no body.
fn says(vela: &Outcome, text: &str) -> bool {
    let status = text.lines().next().unwrap_or_default().as_bytes();
    vela.answer.ends_with(text.as_bytes())
        || vela.answer.ends_with(b"\r\n\r\n")
            && vela.answer.windows(status.len()).any(|some| some == status)
}

/// What an oracle treats otherwise than Vela though it is sound, or though what is wrong with it is the app's to say.
struct Odd {
    #[expect(dead_code, reason = "it is for who reads the table")]
    why: &'static str,
    is_it: fn(&Request<'_>) -> bool,
}

const ODD_OF_NGINX: &[Odd] = &[
    Odd {
        why: "TRACE is answered 405; a proxy passes it on (RFC 9110, 9.3.8)",
        is_it: |case| case.line.starts_with(b"TRACE "),
    },
    Odd {
        why: "a method is upper-case letters, `-` and `_`; by RFC 9110, 9.1, it is any token",
        is_it: |case| {
            let method = case
                .line
                .split(|&byte| byte == b' ')
                .next()
                .unwrap_or_default();
            !method
                .iter()
                .all(|byte| byte.is_ascii_uppercase() || b"-_".contains(byte))
        },
    },
    Odd {
        why: "it decodes targets to find a location; Vela passes them on as they are (RFC 9110, 7.6)",
        is_it: |case| {
            let target = case.target();
            let path = target
                .split(|&byte| byte == b'?')
                .next()
                .unwrap_or_default();
            path.windows(2).any(|two| two == b"..") || path.contains(&b'%')
        },
    },
    Odd {
        why: "an invalid Host is refused beside an authority; a proxy must ignore it (RFC 9112, 3.2.2)",
        is_it: |case| {
            let is_absolute = case.authority().is_some();
            is_absolute && case.values(b"host").iter().any(|host| !is_host(host))
        },
    },
    Odd {
        why: "an empty query behind an authority is dropped; it is another target (RFC 3986, 6.2.3)",
        is_it: |case| case.authority().is_some() && case.target().ends_with(b"?"),
    },
    Odd {
        why: "a tab before a coding is refused; it is whitespace like another (RFC 9110, 5.6.3)",
        is_it: |case| {
            let mut lines = case.head.split(|&byte| byte == b'\n');
            lines.any(|line| {
                line.to_ascii_lowercase()
                    .starts_with(b"transfer-encoding:\t")
            })
        },
    },
    Odd {
        why: "an authority that begins with `_` is refused; so may a name (RFC 3986, 3.2.2)",
        is_it: |case| {
            case.authority()
                .is_some_and(|authority| authority.starts_with(b"_"))
        },
    },
    Odd {
        why: "a length beside a coding is refused; the coding may be gone by (RFC 9112, 6.1)",
        is_it: |case| {
            let has = |name: &[u8]| !case.values(name).is_empty();
            has(b"content-length") && has(b"transfer-encoding")
        },
    },
    Odd {
        why: "`OPTIONS *` is refused; it is sound (RFC 9112, 3.2.4)",
        is_it: |case| case.target() == b"*",
    },
];

const ODD_OF_HAPROXY: &[Odd] = &[
    Odd {
        why: "bytes that are not ASCII in a target are refused; they end nothing, and the app knows what they are",
        is_it: |case| case.target().iter().any(|byte| !byte.is_ascii()),
    },
    Odd {
        why: "trailers that frame a message are refused; they may be left out (RFC 9110, 6.5.1)",
        is_it: |case| {
            let frames = [&b"content-length:"[..], b"transfer-encoding:"];
            let mut lines = case
                .trailers
                .split(|&byte| byte == b'\n')
                .take_while(|line| line.len() > 1);
            lines.any(|line| {
                frames
                    .iter()
                    .any(|name| line.to_ascii_lowercase().starts_with(name))
            })
        },
    },
    Odd {
        why: "a query behind an authority is taken for a part of it; it ends there (RFC 3986, 3.2)",
        is_it: |case| {
            let rest = case.target().split(|&byte| byte == b'/').nth(2);
            case.authority().is_some() && rest.is_some_and(|rest| rest.contains(&b'?'))
        },
    },
    Odd {
        why: "a WebSocket without its key is refused; that is the app's to say (RFC 6455, 4.2.1)",
        is_it: |case| {
            let upgrade = case.values(b"upgrade");
            let is_socket = upgrade
                .iter()
                .any(|one| one.eq_ignore_ascii_case(b"websocket"));
            is_socket && case.values(b"sec-websocket-key").is_empty()
        },
    },
    Odd {
        why: "names that long are refused; Vela limits the head as a whole (RFC 9110, 5.4)",
        is_it: |case| {
            let mut lines = case.head.split(|&byte| byte == b'\n');
            lines.any(|line| line.iter().position(|&byte| byte == b':') > Some(10_000))
        },
    },
    Odd {
        why: "a Host that is not the target's authority is refused; a proxy must replace it (RFC 9112, 3.2.2)",
        is_it: |case| {
            let host = case.values(b"host").first().copied();
            case.authority()
                .is_some_and(|authority| Some(authority) != host)
        },
    },
];

/// Whether each oracle has a reason of its own not to pass on what Vela does.
pub(crate) fn is_odd_for_both(passed: &[u8]) -> bool {
    let request = Request::of(passed);
    let is_one_of = |odd: &[Odd]| odd.iter().any(|one| (one.is_it)(&request));
    is_one_of(ODD_OF_NGINX) && is_one_of(ODD_OF_HAPROXY)
}

/// What Vela keeps from apps, and the oracles do not: what CGI and WSGI servers take for a length, a coding, or a proxy
/// to use.
pub(crate) const WITHHELD: &[&str] = &["content_length", "transfer_encoding", "proxy"];

/// A name or an address, and perhaps a port.
fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !text.ends_with(b"]") => (&text[..colon], &text[colon + 1..]),
        _ => (text, &b""[..]),
    };
    let is_name = |name: &[u8]| {
        let labels = name
            .strip_suffix(b".")
            .unwrap_or(name)
            .split(|&byte| byte == b'.');
        labels.into_iter().all(|label| {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
            (1..64).contains(&label.len()) && label.iter().all(is_part)
        })
    };
    let is_address = |name: &[u8]| {
        let inner = name
            .strip_prefix(b"[")
            .and_then(|name| name.strip_suffix(b"]"));
        let text = inner.and_then(|inner| std::str::from_utf8(inner).ok());
        text.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let port = std::str::from_utf8(port).unwrap_or("x");
    (is_name(name) || is_address(name)) && (port.is_empty() || port.parse::<u16>().is_ok())
}
