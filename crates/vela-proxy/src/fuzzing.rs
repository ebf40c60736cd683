//! What parses bytes from the network, each part as a function of bytes that panics where something
//! is wrong. For `fuzz/` and for `tests/fuzzing.rs`: nothing here is for users.

mod connection;
mod http2_head;
mod log_line;
mod request_head;
mod retry_after;
mod strict;

pub(crate) use connection::dialled;

use std::task::{Context, Poll, Waker};

use crate::buffer::Buffer;
use crate::chunks::Chunks;
use crate::flow::Flow;
use crate::head_end::{Extent, HeadEnd};
use crate::http2::head::{self, Framing};
use crate::request_head::Asked;
use crate::response_head;
use crate::wire::Wire;
use crate::{Host, HostPattern, Limits, Network, PathPrefix};

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("request_head", request_head::request_head),
    ("response_head", response_head),
    ("chunked", chunked),
    ("names", names),
    ("connection", connection::connection),
    ("http2_head", http2_head::http2_head),
    ("log_line", log_line::log_line),
    ("retry_after", retry_after::retry_after),
];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(one, _)| *one == name);
    let (_, run) = target.expect("the name is in the table above");
    run(bytes);
}

/// How much longer a head may get.
const MORE: usize = 1024;

/// The bytes are an upstream's response head, behind one that say what was asked.
fn response_head(bytes: &[u8]) {
    let Some((&flags, bytes)) = bytes.split_first() else {
        return;
    };
    let Extent::Whole(length) = HeadEnd::default().find(bytes) else {
        return;
    };
    let is = |bit: u8| flags & (1 << bit) != 0;
    let asked = Asked {
        is_head: is(0),
        is_idempotent: true,
        is_http11: is(1),
        keep_alive: is(2),
        expects_continue: false,
        takes_trailers: is(3),
        upgrades: is(4),
    };
    let mut out = Buffer::default();
    let translated = response_head::translate(
        &bytes[..length],
        &Limits::default(),
        &asked,
        is(5),
        None,
        &mut out,
    );
    let (Ok(answered), out) = (translated, out.filled()) else {
        return;
    };
    assert!(out.len() <= length + MORE, "{}", out.escape_ascii());
    if out.is_empty() {
        assert!((100..200).contains(&answered.status));
        return;
    }
    let head = strict::response(out)
        .unwrap_or_else(|what| panic!("{what}: {}", out.escape_ascii()))
        .expect("a whole head");
    assert_eq!((head.length, head.status), (out.len(), answered.status));
    if answered.flow.ends_by_closing() {
        assert!(!answered.client_stays);
    }
    if !answered.flow.is_done() {
        assert_eq!(head.is_chunked, answered.flow.to_chunks());
        assert_eq!(
            head.has_length,
            !head.is_chunked && !answered.flow.ends_by_closing()
        );
    }
    check_http2(out, &head);
}

/// What becomes of a response's head for a client of HTTP/2 is the same, without what is for one
/// connection only (RFC 9113, 8.2.2).
fn check_http2(out: &[u8], head: &strict::Response<'_>) {
    let text = out.escape_ascii();
    let read = head::response(out).unwrap_or_else(|| panic!("unreadable: {text}"));
    let (response, framing, length) = read;
    assert_eq!(
        (length, response.status().as_u16()),
        (head.length, head.status)
    );
    match framing {
        Framing::None => assert!(!head.has_length && !head.is_chunked),
        Framing::Length(_) => assert!(head.has_length),
        Framing::Chunked => assert!(head.is_chunked),
    }
    let is_hop_by_hop = |name: &str| {
        [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ]
        .contains(&name)
    };
    let fields = head.fields.iter().filter(|(name, _)| !is_hop_by_hop(name));
    let mut wanted: Vec<_> = fields.map(|(name, value)| (&name[..], *value)).collect();
    let fields = response.headers().iter();
    let mut found: Vec<_> = fields
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    // By name: those of the same one keep their order.
    wanted.sort_by_key(|(name, _)| *name);
    found.sort_by_key(|(name, _)| *name);
    assert_eq!(found, wanted, "{text}");
}

/// The bytes are a chunked body, behind one that says in which pieces they come.
fn chunked(bytes: &[u8]) {
    let Some((&step, bytes)) = bytes.split_first() else {
        return;
    };
    let wanted = strict::chunked(bytes);
    for step in [usize::from(step) + 1, bytes.len().max(1)] {
        let passed = pass(Flow::chunks(Chunks::default(), false, true), bytes, step);
        assert_eq!(passed, wanted.as_ref().map(|wanted| wanted.body.clone()));
        let Some(anew) = pass(Flow::chunks(Chunks::default(), true, true), bytes, step) else {
            assert!(wanted.is_none());
            continue;
        };
        let chunks = strict::chunked(&anew).expect("chunks");
        assert_eq!(Some(chunks.body), passed);
        let read = head::trailers(&anew[chunks.last..]).expect("trailers of this proxy");
        let mut found: Vec<_> = read
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let mut wanted: Vec<_> = chunks
            .trailers
            .iter()
            .map(|(name, value)| (&name[..], *value))
            .collect();
        found.sort_by_key(|(name, _)| *name);
        wanted.sort_by_key(|(name, _)| *name);
        assert_eq!(found, wanted);
        for (name, _) in chunks.trailers {
            let is_about_message = [
                "content-length",
                "transfer-encoding",
                "host",
                "te",
                "trailer",
            ];
            assert!(!is_about_message.contains(&&name[..]), "{name}");
            assert!(
                !name.starts_with("x-forwarded-") && name != "forwarded",
                "{name}"
            );
        }
    }
}

/// What comes out of a body, when it comes to its end.
fn pass(mut flow: Flow, bytes: &[u8], step: usize) -> Option<Vec<u8>> {
    let (mut from, mut to) = (Wire::new(Pieces { bytes, step }), Wire::new(Vec::new()));
    let passed = flow.poll_pass(&mut Context::from_waker(Waker::noop()), &mut from, &mut to);
    match passed {
        Poll::Ready(passed) => passed.ok().map(|()| to.stream),
        Poll::Pending => panic!("neither side is ever to be waited for"),
    }
}

/// Bytes that come so many at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl tokio::io::AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        space: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = self.step.min(self.bytes.len()).min(space.remaining());
        let (now, later) = self.bytes.split_at(count);
        space.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// The bytes are a host, a pattern, a path prefix, a network.
fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(host) = Host::parse(text) {
        let normal = host.as_str();
        assert_eq!(Host::parse(normal).as_ref(), Ok(&host));
        assert_eq!(normal, normal.to_ascii_lowercase());
        assert!(normal.starts_with('[') || !normal.contains(':'));
        assert!(normal.len() <= text.len() + 40);
        let pattern: HostPattern = normal.parse().expect("a host is a pattern");
        assert_eq!(pattern.to_string(), normal);
    }
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern));
    }
    if let Ok(prefix) = text.parse::<PathPrefix>() {
        assert_eq!(prefix.to_string().parse().as_ref(), Ok(&prefix));
    }
    if let Ok(network) = text.parse::<Network>() {
        let address = text.split('/').next().unwrap_or_default();
        let address: std::net::IpAddr = address.parse().expect("a network begins with an address");
        let is_mapped = address.to_canonical() != address;
        assert!(network.contains(address) || is_mapped, "{text}");
    }
}
