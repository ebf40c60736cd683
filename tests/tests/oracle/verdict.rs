use std::borrow::Cow;

use crate::lane::{Outcome, Outcomes};
use crate::oddity::{ODD_OF_HAPROXY, ODD_OF_NGINX, Odd, oddity};
use crate::seen::{Entry, Headers, Next, Seen, next};
use crate::stricter::stricter;

/// What Vela made of a case, beside the oracles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What both oracles made of it.
    Alike,
    /// What one of them made of it, or less where they differ.
    LikeOne,
    /// It refused what both oracles take, as that row of the table of differences says.
    Stricter(usize),
    /// It passed on what each oracle treats otherwise for a reason of its own: for nginx that row of its table of
    /// oddities, and for HAProxy that of its own. What comes behind is to be looked at alone, if it is known where it begins.
    Odd(usize, usize, Option<Vec<u8>>),
    /// The oracles had ended the connection when the rest came, which is to be looked at alone.
    Alone(Vec<u8>),
    Wrong(Fault),
}

/// What is wrong with what Vela made of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its backend saw what no backend should.
    Ambiguous(&'static str),
    /// Its backend saw a request that neither oracle passes on like that.
    Unheard,
    /// Its backend saw fewer requests than both oracles', and the client was told nothing.
    Swallowed,
    /// Both oracles take alike what it refuses.
    Refused,
    /// Both oracles pass the same header lines on, and it others: these differ.
    Headers(String),
    /// Its backend saw other trailers than HAProxy's, or than were sent if HAProxy refuses them: nginx drops all.
    Trailers(String),
    /// The client was told of more or fewer requests than the backend saw.
    Answers,
    /// Its backend saw something else when the same came again.
    Changed,
}

/// What a request is, apart from its headers.
type Essence<'a> = (&'a str, Cow<'a, [u8]>, &'a [u8]);

fn essence(seen: &Entry) -> Option<Essence<'_>> {
    let seen = seen.as_ref().ok()?;
    Some((&seen.method, origin_form(seen), &seen.body))
}

/// Whether two requests are the same to an app.
pub(crate) fn is_alike(one: &Entry, other: &Entry) -> bool {
    let trailers = |seen: &Entry| seen.as_ref().ok().map(|seen| seen.trailers.clone());
    essence(one) == essence(other) && trailers(one) == trailers(other)
}

/// HAProxy passes a target in absolute form on as it is. To its backend it says the same.
fn origin_form(seen: &Seen) -> Cow<'_, [u8]> {
    let target = &seen.target[..];
    let schemes = [&b"http://"[..], b"https://"];
    let is_begin = |scheme: &&[u8]| {
        let begin = target.get(..scheme.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    };
    let Some(scheme) = schemes.into_iter().find(is_begin) else {
        return target.into();
    };
    let behind = &target[scheme.len()..];
    let end = behind.iter().position(|byte| b"/?".contains(byte));
    match &behind[end.unwrap_or(behind.len())..] {
        b"" if seen.method == "OPTIONS" => b"*".into(),
        path if path.starts_with(b"/") => path.into(),
        query => [b"/", query].concat().into(),
    }
}

/// Compares what the three made of a case.
pub(crate) fn verdict(case: &[u8], outcomes: &Outcomes) -> Verdict {
    let Outcomes {
        vela,
        nginx,
        haproxy,
    } = outcomes;
    let ambiguous = vela.seen.iter().find_map(|seen| match seen {
        Ok(seen) => seen.has_extensions.then_some("a chunk with an extension"),
        Err(broken) => Some(broken),
    });
    if let Some(what) = ambiguous {
        return Verdict::Wrong(Fault::Ambiguous(what));
    }
    let Some(mut understood) = understood(vela) else {
        return Verdict::Wrong(Fault::Answers);
    };
    let (by_nginx, by_haproxy) = (common(&understood, nginx), common(&understood, haproxy));
    let most = by_nginx.max(by_haproxy);
    // For a host that it does not know it need not wait for the body.
    let closed_unread =
        understood.last() == Some(&None) && vela.statuses().last() == Some(&UNKNOWN);
    if closed_unread && most < understood.len() {
        understood.pop();
    }
    if most < understood.len() {
        let have_ended = [(by_nginx, nginx), (by_haproxy, haproxy)]
            .iter()
            .all(|(alike, oracle)| *alike == oracle.seen.len() && oracle.has_ended());
        return match behind(case, most) {
            Some([]) | None => Verdict::Wrong(Fault::Unheard),
            Some(rest) if have_ended && most > 0 => Verdict::Alone(rest.to_vec()),
            Some(_) => {
                let odd_of_nginx = odd(ODD_OF_NGINX, case, by_nginx, nginx);
                let odd_of_haproxy = odd(ODD_OF_HAPROXY, case, by_haproxy, haproxy);
                match odd_of_nginx.zip(odd_of_haproxy) {
                    Some((one, other)) => {
                        let rest = behind(case, most + 1).map(<[u8]>::to_vec);
                        Verdict::Odd(one, other, rest)
                    }
                    None => Verdict::Wrong(Fault::Unheard),
                }
            }
        };
    }
    let is_all_known = understood.iter().all(Option::is_some);
    if is_all_known && let Some(differing) = differing_headers(case, outcomes) {
        return Verdict::Wrong(Fault::Headers(differing));
    }
    if is_all_known && let Some(differing) = differing_trailers(case, outcomes) {
        return Verdict::Wrong(Fault::Trailers(differing));
    }
    let all: Vec<_> = nginx.seen.iter().map(Some).collect();
    let are_alike = common(&all, haproxy) == all.len() && all.len() == haproxy.seen.len();
    let fewest = nginx.seen.len().min(haproxy.seen.len());
    match understood.len() {
        passed if are_alike && passed == all.len() => Verdict::Alike,
        passed if passed < fewest && !vela.is_refused() => Verdict::Wrong(Fault::Swallowed),
        passed if are_alike => {
            let refused = behind(case, passed - usize::from(closed_unread));
            match refused.and_then(|refused| stricter(refused, vela)) {
                Some(row) => Verdict::Stricter(row),
                None => Verdict::Wrong(Fault::Refused),
            }
        }
        _ => Verdict::LikeOne,
    }
}

/// There is no route for the host.
const UNKNOWN: u16 = 404;

/// What Vela understood as requests: what its backend saw, and in its place what is for a host that it does not know.
/// Nothing when its answers do not fit to what the backend saw.
fn understood(vela: &Outcome) -> Option<Vec<Option<&Entry>>> {
    let mut seen = vela.seen.iter();
    let mut understood = Vec::new();
    for status in vela.statuses() {
        match status {
            UNKNOWN => understood.push(None),
            400.. => break,
            _ => understood.push(Some(seen.next()?)),
        }
    }
    seen.next().is_none().then_some(understood)
}

/// How many requests both begin with.
fn common(understood: &[Option<&Entry>], oracle: &Outcome) -> usize {
    let is_alike = |(one, other): &(&Option<&Entry>, &Entry)| match one {
        Some(one) => essence(one).is_some() && essence(one) == essence(other),
        None => other.is_ok(),
    };
    let pairs = understood.iter().zip(&oracle.seen);
    pairs.take_while(is_alike).count()
}

/// The row that says why an oracle passes on no more than so many requests as Vela does.
fn odd(rows: &[Odd], case: &[u8], alike: usize, oracle: &Outcome) -> Option<usize> {
    oddity(rows, behind(case, alike)?, alike, oracle)
}

/// What comes behind so many requests, if these are sound beyond doubt.
fn behind(mut case: &[u8], requests: usize) -> Option<&[u8]> {
    for _ in 0..requests {
        while let Some(rest) = case.strip_prefix(b"\r\n") {
            case = rest;
        }
        match next(case) {
            Next::Whole(_, length) => case = &case[length..],
            Next::Partial | Next::Broken(_) => return None,
        }
    }
    Some(case)
}

/// Header lines of the requests that all three pass on, where both oracles have others than Vela.
fn differing_headers(case: &[u8], outcomes: &Outcomes) -> Option<String> {
    let (nginx, haproxy) = (&outcomes.nginx.seen, &outcomes.haproxy.seen);
    let named = named_by_connection(case);
    for ((vela, nginx), haproxy) in outcomes.vela.seen.iter().zip(nginx).zip(haproxy) {
        if essence(vela) != essence(nginx) || essence(vela) != essence(haproxy) {
            return None;
        }
        let (Ok(vela), Ok(nginx), Ok(haproxy)) = (vela, nginx, haproxy) else {
            return None;
        };
        let [vela, nginx, haproxy] = [vela, nginx, haproxy].map(|seen| end_to_end(seen, &named));
        if nginx == haproxy && vela != nginx {
            return Some(format!("{vela:?} instead of {nginx:?}"));
        }
    }
    None
}

/// Trailers of the requests that Vela passes on, where they are not those that HAProxy passes on, or that were sent.
fn differing_trailers(case: &[u8], outcomes: &Outcomes) -> Option<String> {
    for (number, vela) in outcomes.vela.seen.iter().enumerate() {
        let haproxy = outcomes.haproxy.seen.get(number);
        let haproxy = haproxy.filter(|haproxy| essence(haproxy) == essence(vela));
        let sent = match (haproxy, behind(case, number).map(next)) {
            (Some(Ok(haproxy)), _) => haproxy.trailers.clone(),
            (_, Some(Next::Whole(sent, _))) => sent.trailers,
            // Of others nothing is known, and none may be passed on.
            _ => Headers::new(),
        };
        let is_wanted = |(name, _): &(String, Vec<u8>)| {
            !(is_claim(name)
                || [OF_ONE_HOP, WITHHELD, OF_HEADS]
                    .concat()
                    .contains(&&name[..]))
        };
        let wanted: Headers = sent.into_iter().filter(is_wanted).collect();
        if let Ok(vela) = vela
            && vela.trailers != wanted
        {
            return Some(format!("{:?} instead of {wanted:?}", vela.trailers));
        }
    }
    None
}

/// What Vela keeps from apps, and the oracles do not: what CGI and WSGI servers take for a length, a coding, or a proxy
/// to use.
const WITHHELD: &[&str] = &["content_length", "transfer_encoding", "proxy"];

/// What would change in a trailer what a head has said, so that Vela passes it on in heads only.
const OF_HEADS: &[&str] = &[
    "content-type",
    "proxy-authenticate",
    "proxy-authorization",
    "trailer",
];

/// What is said between two neighbours only, or by the proxy itself.
const OF_ONE_HOP: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The header lines for the app, in an order that says no more than it means: that of lines of one name.
fn end_to_end(seen: &Seen, named: &[Vec<u8>]) -> Headers {
    let mut headers: Vec<_> = seen
        .headers
        .iter()
        .filter(|(name, _)| {
            let is_named = named.iter().any(|one| one == name.as_bytes());
            let has = |names: &[&str]| names.contains(&&name[..]);
            !(is_claim(name) || is_named || has(OF_ONE_HOP) || has(WITHHELD))
        })
        .cloned()
        .collect();
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}

/// It is said by proxies about clients.
fn is_claim(name: &str) -> bool {
    let claims = ["x-forwarded-", "x-real-ip", "x-request-"];
    // CGI and WSGI servers take `_` for `-`.
    let name = name.replace('_', "-");
    claims.iter().any(|claim| name.starts_with(claim))
}

/// The names in all the `Connection` lines of a case: such fields are for one hop. The oracles pass them on nonetheless.
fn named_by_connection(case: &[u8]) -> Vec<Vec<u8>> {
    let lines = case.split(|&byte| byte == b'\n');
    let values = lines.filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(b"connection")
            .then(|| &value[1..])
    });
    values
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect()
}

#[test]
fn what_an_oddity_does_not_explain_is_wrong() {
    let judged = |target: &str, nginx: &str| {
        let case = format!("GET {target}\u{e4} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let outcomes = Outcomes {
            vela: Outcome::at_once(&[case.as_bytes()], "204 No Content"),
            nginx: Outcome::at_once(&[], nginx),
            // It takes no bytes that are not ASCII.
            haproxy: Outcome::at_once(&[], "400 Bad request"),
        };
        verdict(case.as_bytes(), &outcomes)
    };
    let unheard = Verdict::Wrong(Fault::Unheard);
    assert!(matches!(
        judged("/%zz", "400 Bad Request"),
        Verdict::Odd(..)
    ));
    assert_eq!(judged("/%zz", "502 Bad Gateway"), unheard);
    assert_eq!(judged("/%20", "400 Bad Request"), unheard);
    assert_eq!(judged("/", "400 Bad Request"), unheard);
}

#[test]
fn trailers_are_those_that_haproxy_passes_on() {
    let judged = |vela: &str, haproxy: &str| {
        let request = |trailers: &str| {
            let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked";
            format!("{head}\r\n\r\n0\r\n{trailers}\r\n")
        };
        let outcome =
            |trailers| Outcome::at_once(&[request(trailers).as_bytes()], "204 No Content");
        let outcomes = Outcomes {
            vela: outcome(vela),
            nginx: outcome(""),
            haproxy: outcome(haproxy),
        };
        verdict(request(haproxy).as_bytes(), &outcomes)
    };
    assert_eq!(judged("x-a: 1\r\n", "X-A: 1\r\n"), Verdict::Alike);
    assert_eq!(judged("", "Content-Length: 9\r\n"), Verdict::Alike);
    for (vela, haproxy) in [
        ("", "X-A: 1\r\n"),
        ("X-A: 1\r\nX-A: 2\r\n", "X-A: 2\r\nX-A: 1\r\n"),
        ("X-Real-IP: ::1\r\n", "X-Real-IP: ::1\r\n"),
        ("Content-Length: 9\r\n", "Content-Length: 9\r\n"),
    ] {
        let verdict = judged(vela, haproxy);
        let is_wrong = matches!(verdict, Verdict::Wrong(Fault::Trailers(_)));
        assert!(is_wrong, "{vela:?}, {haproxy:?}: {verdict:?}");
    }
}
