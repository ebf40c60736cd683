use std::net::IpAddr;

use super::strict;
use crate::buffer::Buffer;
use crate::decision::Decision;
use crate::forwarded::Provenance;
use crate::head_end::{Extent, HeadEnd};
use crate::peer::Peer;
use crate::request_head::{self, Asked};
use crate::route_table::RouteTable;
use crate::{Host, ProxyConfig, RouteSpec};

/// How much longer a head may get: what the proxy says of itself, and of who asked.
const MORE: usize = 1024;
/// Who asks.
const PEER: &str = "127.0.0.1";
/// In what a trusted proxy tells who asked it.
const CLAIM: &str = "cf-connecting_ip";
/// What is taken off paths.
const PREFIX: &str = "/a";
/// As long as a body may be.
const LONGEST: u64 = 4;

/// The bytes are a request's head, whose length says how the proxy is set up.
pub(super) fn request_head(bytes: &[u8]) {
    if let Extent::Whole(length) = HeadEnd::default().find(bytes) {
        for bits in [length as u8, !(length as u8)] {
            Manner::of(bits).check(&bytes[..length]);
        }
    }
}

/// How the proxy and the route are set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Who asks is a proxy that is believed.
    is_trusted: bool,
    /// Such a proxy tells who asked it in a header of its own.
    has_claim: bool,
    strips: bool,
    is_capped: bool,
}

/// What has passed.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) asked: Asked,
    pub(super) to_chunks: bool,
    /// The head that an upstream gets.
    pub(super) out: Vec<u8>,
}

impl Manner {
    /// By the lowest four bits.
    pub(super) fn of(bits: u8) -> Manner {
        let is = |bit: u8| bits & (1 << bit) != 0;
        Manner {
            is_trusted: is(0),
            has_claim: is(1),
            strips: is(2),
            is_capped: is(3),
        }
    }

    /// What the proxy is told of it.
    pub(super) fn config(self) -> ProxyConfig {
        let trusted = self.is_trusted.then_some("127.0.0.0/8");
        let trusted = trusted.map(|one| one.parse().expect("a network"));
        let claim = self.has_claim.then_some(CLAIM);
        ProxyConfig {
            trusted_proxies: trusted.into_iter().collect(),
            client_ip_header: claim.map(|name| name.parse().expect("a name")),
            ..ProxyConfig::default()
        }
    }

    /// What the route is told of it.
    pub(super) fn route(self) -> RouteSpec {
        let host = "a.test".parse().expect("a host");
        let mut spec = RouteSpec::new("app", vec![host], Vec::new());
        if self.strips {
            spec.path = PREFIX.parse().expect("a prefix");
            spec.options.strip_path = true;
        }
        spec.options.max_body = self.is_capped.then_some(LONGEST);
        spec
    }

    /// The head of a request, up to its end; nothing if the proxy does not take it.
    pub(super) fn check(self, given: &[u8]) -> Option<Passed> {
        let config = self.config();
        let peer = Peer::new(
            (PEER.parse::<IpAddr>().expect("one"), 1).into(),
            "http",
            &config,
        );
        let mut provenance = Provenance::of(&peer);
        let (mut host, mut out) = (String::new(), Buffer::default());
        let routes = RouteTable::default();
        let applied = routes.apply(self.route());
        assert!(applied.is_ok_and(|replaced| replaced.is_none()));
        let passes = Decision::Pass(routes.find("a.test", PREFIX).expect("the route above"));
        let translated = request_head::translate(
            given,
            &config,
            &peer,
            &mut host,
            &mut provenance,
            &mut out,
            |_| &passes,
        );
        let (asked, flow) = translated.ok()?;
        for name in ["host", "content-length", "transfer-encoding"] {
            let count = strict::count(given, name);
            assert!(
                count.is_none_or(|count| count < 2),
                "{}",
                given.escape_ascii()
            );
        }
        assert_eq!(Host::parse(&host).map(|host| host.to_string()), Ok(host));
        let out = out.filled();
        assert!(
            out.len() <= 3 * given.len() + MORE,
            "{}",
            out.escape_ascii()
        );
        let head = strict::request(out)
            .unwrap_or_else(|what| panic!("{what}: {}", out.escape_ascii()))
            .expect("a whole head");
        assert_eq!(head.length, out.len(), "{}", out.escape_ascii());
        assert_eq!(head.method == b"HEAD", asked.is_head);
        assert_eq!(head.is_upgrade, asked.upgrades);
        match head.body {
            strict::Body::Length(0) => assert!(flow.is_done()),
            strict::Body::Length(length) => {
                assert!(!flow.is_done() && !flow.to_chunks());
                assert!(!self.is_capped || length as u64 <= LONGEST);
            }
            strict::Body::Chunked => assert!(flow.to_chunks()),
        }
        self.expect_line(given, &head);
        self.expect_told(&head, provenance.client);
        Some(Passed {
            asked,
            to_chunks: flow.to_chunks(),
            out: out.to_vec(),
        })
    }

    /// The method and the target are those that were asked, but for the prefix.
    fn expect_line(self, given: &[u8], head: &strict::Request<'_>) {
        let begin = given.iter().position(|byte| !b"\r\n".contains(byte));
        let given = &given[begin.unwrap_or_default()..];
        let Ok((words, _)) = strict::lines(given) else {
            return;
        };
        let [method, target, _] = words[..] else {
            panic!("a request line of other than three words has passed");
        };
        assert_eq!(head.method, method);
        if !target.starts_with(b"/") {
            assert!(matches!(head.target, [b'/', ..] | b"*"));
            return;
        }
        let below = target.strip_prefix(PREFIX.as_bytes());
        let below = below.filter(|_| self.strips);
        let wanted = match below {
            Some(rest @ (b"" | [b'?', ..])) => [b"/", rest].concat(),
            Some(rest @ [b'/', ..]) => rest.to_vec(),
            _ => target.to_vec(),
        };
        assert_eq!(head.target, wanted);
    }

    /// Nobody says who asks but the proxy, and those whom it believes.
    fn expect_told(self, head: &strict::Request<'_>, client: IpAddr) {
        let only = |name: &str| match head.values(name)[..] {
            [value] => String::from_utf8_lossy(value).into_owned(),
            _ => panic!("not one {name}"),
        };
        let list = only("x-forwarded-for");
        let address = only("x-real-ip");
        only("forwarded");
        only("x-request-id");
        only("x-request-start");
        assert!(list == PEER || self.is_trusted && list.ends_with(&format!(", {PEER}")));
        let address: IpAddr = address.parse().expect("an address");
        assert_eq!(address.to_canonical(), client);
        assert!(self.is_trusted || client.to_string() == PEER);
        let count = head.values("x-forwarded-prefix").len();
        match (self.strips, self.is_trusted) {
            (true, _) => assert_eq!(count, 1),
            (false, false) => assert_eq!(count, 0),
            (false, true) => {}
        }
        for (name, _) in &head.fields {
            let name = name.replace('_', "-");
            let is_claim = self.has_claim && name == CLAIM.replace('_', "-");
            assert!(!is_claim || self.is_trusted, "{name}");
        }
    }
}
