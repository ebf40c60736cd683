//! What Vela refuses though both oracles take it, and where the standards say that it may.

use crate::lane::Outcome;
use crate::request::{Request, has_bare_line_feed, is_host};

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
            lines.any(|line| line.strip_suffix(b"\r").unwrap_or(line).iter().any(is_odd))
        },
    },
    Stricter {
        // Chunks that nobody wants are not read to their end, and HTTP/1.0 is not kept alive without need: a server may
        // close after any answer.
        rfc: "RFC 9112, 9.6",
        says: "404 Not Found\nnothing is served at this host\n",
        is_it: |case| {
            !case.values(b"transfer-encoding").is_empty() || case.line.ends_with(b"HTTP/1.0")
        },
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
