//! What one oracle treats otherwise than Vela and the other one, each for reasons of its own.

use crate::lane::Outcome;
use crate::request::{Request, is_host};

/// What an oracle treats otherwise than Vela though it is sound, or though what is wrong with it is the app's to say.
pub(crate) struct Odd {
    pub(crate) why: &'static str,
    is_it: fn(&Request<'_>) -> bool,
    does: Does,
}

/// How an oracle treats what is odd to it.
enum Does {
    /// It answers so, and passes nothing on.
    Refuses(u16),
    /// It passes it on with that target.
    Passes(fn(&Request<'_>) -> Vec<u8>),
}

pub(crate) const ODD_OF_NGINX: &[Odd] = &[
    Odd {
        why: "TRACE is answered 405; a proxy passes it on (RFC 9110, 9.3.8)",
        is_it: |case| case.line.starts_with(b"TRACE "),
        does: Does::Refuses(405),
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
        does: Does::Refuses(400),
    },
    Odd {
        why: "it decodes paths, and refuses those that can't be or lead up too far; Vela passes them on (RFC 9110, 7.6)",
        is_it: |case| {
            let target = case.target();
            let path = target.split(|&byte| byte == b'?').next();
            decoded(path.unwrap_or_default()).is_none_or(|path| leads_up(&path))
        },
        does: Does::Refuses(400),
    },
    Odd {
        why: "an invalid Host is refused beside an authority; a proxy must ignore it (RFC 9112, 3.2.2)",
        is_it: |case| {
            let is_absolute = case.authority().is_some();
            is_absolute && case.values(b"host").iter().any(|host| !is_host(host))
        },
        does: Does::Refuses(400),
    },
    Odd {
        why: "an empty query behind an authority is dropped; it is another target (RFC 3986, 6.2.3)",
        is_it: |case| case.authority().is_some() && case.target().ends_with(b"?"),
        does: Does::Passes(|case| {
            let target = case.target();
            let target = target.strip_suffix(b"?").unwrap_or(target);
            let path = target.splitn(4, |&byte| byte == b'/').nth(3);
            [b"/", path.unwrap_or_default()].concat()
        }),
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
        does: Does::Refuses(501),
    },
    Odd {
        why: "a tab around a Host is refused; it is whitespace like another (RFC 9110, 5.6.3)",
        is_it: |case| {
            let mut lines = case.head.split(|&byte| byte == b'\n');
            let is_host = |line: &[u8]| line.to_ascii_lowercase().starts_with(b"host:");
            lines.any(|line| is_host(line) && line.contains(&b'\t'))
        },
        does: Does::Refuses(400),
    },
    Odd {
        why: "an authority with a `_` is refused; so may a name be (RFC 3986, 3.2.2)",
        is_it: |case| {
            case.authority()
                .is_some_and(|authority| authority.contains(&b'_'))
        },
        does: Does::Refuses(400),
    },
    Odd {
        why: "a length beside a coding is refused; the coding may be gone by (RFC 9112, 6.1)",
        is_it: |case| {
            let has = |name: &[u8]| !case.values(name).is_empty();
            has(b"content-length") && has(b"transfer-encoding")
        },
        does: Does::Refuses(400),
    },
    Odd {
        why: "`OPTIONS *` is refused; it is sound (RFC 9112, 3.2.4)",
        is_it: |case| case.target() == b"*",
        does: Does::Refuses(400),
    },
];

pub(crate) const ODD_OF_HAPROXY: &[Odd] = &[
    Odd {
        why: "a body of GET, HEAD or DELETE in HTTP/1.0 is refused; any method may have one (RFC 9110, 9.3)",
        is_it: |case| {
            let is_one = |method: &&[u8]| case.line.starts_with(method);
            let has_body = !case.values(b"content-length").is_empty();
            has_body
                && case.line.ends_with(b"HTTP/1.0")
                && [&b"GET "[..], b"HEAD ", b"DELETE "].iter().any(is_one)
        },
        does: Does::Refuses(413),
    },
    Odd {
        why: "bytes that are not ASCII in a target are refused; they end nothing, and the app knows what they are",
        is_it: |case| case.target().iter().any(|byte| !byte.is_ascii()),
        does: Does::Refuses(400),
    },
    Odd {
        why: "a length or coding in trailers is refused if it is none; it may be left out (RFC 9110, 6.5.1)",
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
        does: Does::Refuses(400),
    },
    Odd {
        why: "a query behind an authority is taken for a part of it; it ends there (RFC 3986, 3.2)",
        is_it: |case| {
            let rest = case.target().split(|&byte| byte == b'/').nth(2);
            case.authority().is_some() && rest.is_some_and(|rest| rest.contains(&b'?'))
        },
        does: Does::Refuses(400),
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
        does: Does::Refuses(400),
    },
    Odd {
        why: "names that long are refused; Vela limits the head as a whole (RFC 9110, 5.4)",
        is_it: |case| {
            let mut lines = case.head.split(|&byte| byte == b'\n');
            lines.any(|line| line.iter().position(|&byte| byte == b':') > Some(255))
        },
        does: Does::Refuses(400),
    },
    Odd {
        why: "a Host that is not the target's authority is refused; a proxy must replace it (RFC 9112, 3.2.2)",
        is_it: |case| {
            let host = case.values(b"host").first().copied();
            case.authority()
                .is_some_and(|authority| Some(authority) != host)
        },
        does: Does::Refuses(400),
    },
];

/// The row of an oracle's table that explains what it made of a request: one that the request is, and the oracle did what
/// stands there. `number` is how many requests came before it on the connection.
pub(crate) fn oddity(
    rows: &[Odd],
    request: &[u8],
    number: usize,
    oracle: &Outcome,
) -> Option<usize> {
    let request = Request::of(request);
    let seen = oracle.seen.get(number);
    rows.iter().position(|row| {
        let is_done = match row.does {
            Does::Refuses(status) => {
                seen.is_none() && oracle.statuses().get(number) == Some(&status)
            }
            Does::Passes(target) => {
                let target = target(&request);
                seen.is_some_and(|seen| seen.as_ref().is_ok_and(|seen| seen.target == target))
            }
        };
        is_done && (row.is_it)(&request)
    })
}

/// A path without its escapes; nothing where one is none, or of a NUL.
fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = is_number.then(|| u8::from_str_radix(digits, 16).ok())??;
        decoded.push(Some(number).filter(|&number| number != 0)?);
        rest = &rest[2..];
    }
    Some(decoded)
}

/// Whether a path has more `..` than something to leave by them.
fn leads_up(path: &[u8]) -> bool {
    let mut depth = 0;
    path.split(|&byte| byte == b'/').any(|segment| {
        depth += match segment {
            b"" | b"." => 0,
            b".." => -1,
            _ => 1,
        };
        depth < 0
    })
}
