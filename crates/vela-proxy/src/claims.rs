use crate::ProxyConfig;
use crate::field::elements;
use crate::forwarded_field::{self, Element};
use crate::host::normalise;
use crate::node::Node;

/// What a trusted proxy says about a request: who asked it, for what, and when.
#[derive(Debug)]
pub(crate) struct Claims<'h, 'b> {
    headers: &'h [httparse::Header<'b>],
    /// Of all `Forwarded` fields together; none if one of them is malformed, or `X-Forwarded-For`
    /// lists the path. A proxy that appends to that may pass on whatever a client writes here, and
    /// a client knows its own address: that both agree would prove nothing.
    forwarded: Vec<Element<'b>>,
    /// The path is the one in `X-Forwarded-For`.
    pub(crate) lists_path: bool,
}

pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";
pub(crate) const FORWARDED_PREFIX: &str = "x-forwarded-prefix";
const FORWARDED: &str = "forwarded";

impl<'h, 'b> Claims<'h, 'b> {
    pub(crate) fn of(headers: &'h [httparse::Header<'b>]) -> Claims<'h, 'b> {
        let lists_path =
            values(headers, FORWARDED_FOR).any(|value| elements(value).next().is_some());
        let mut forwarded = Vec::new();
        let is_sound = !lists_path
            && values(headers, FORWARDED)
                .all(|value| forwarded_field::read(value, &mut forwarded).is_some());
        if !is_sound {
            forwarded.clear();
        }
        Claims {
            headers,
            forwarded,
            lists_path,
        }
    }

    /// The values of the fields with this name.
    pub(crate) fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &'b [u8]> {
        values(self.headers, name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The value of a field that is there once.
    pub(crate) fn only(&self, name: &str) -> Option<&'b [u8]> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The fields that `Forwarded` goes on from.
    pub(crate) fn forwarded(&self) -> impl Iterator<Item = &'b [u8]> {
        let is_sound = !self.forwarded.is_empty();
        let values = self.values(FORWARDED).filter(move |_| is_sound);
        values.filter(|value| !value.is_empty())
    }

    /// Who asked each of the proxies before, the nearest one last.
    pub(crate) fn path(&self) -> impl DoubleEndedIterator<Item = Option<Node<'b>>> {
        let values = self.values(FORWARDED_FOR);
        let listed = values.flat_map(|value| value.split(|&byte| byte == b','));
        let listed = listed.filter(|one| !one.trim_ascii().is_empty());
        listed
            .map(Node::of)
            .chain(self.forwarded.iter().map(|element| element.node))
    }

    /// Who asked the first of the trusted proxies, as they say. `None` if they say it in no way
    /// that could be understood.
    pub(crate) fn client(&self, config: &ProxyConfig) -> Option<Node<'b>> {
        if let Some(name) = &config.client_ip_header
            && self.has(name.as_str())
        {
            return self.only(name.as_str()).and_then(Node::of);
        }
        // Each says who asked it, so that one is believed whom all behind it are.
        let mut farthest = None;
        for node in self.path().rev() {
            farthest = Some(node?);
            if !node.is_some_and(|node| config.trusts(node.ip)) {
                break;
            }
        }
        farthest
    }

    /// The scheme by which the client asked.
    pub(crate) fn proto(&self) -> Option<&'b str> {
        let listed = self.first("x-forwarded-proto");
        let told = listed.or_else(|| self.forwarded.iter().find_map(|element| element.proto));
        told.filter(|text| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    }

    /// The authority by which the client asked.
    pub(crate) fn host(&self) -> Option<&'b str> {
        let listed = self.first("x-forwarded-host");
        let told = listed.or_else(|| self.forwarded.iter().find_map(|element| element.host));
        told.filter(|text| normalise(text).is_some())
    }

    /// What was stripped of the path that the client asked for, without a slash at its end.
    pub(crate) fn prefix(&self) -> Option<&'b [u8]> {
        let mut prefix = self.only(FORWARDED_PREFIX)?;
        while let Some(shorter) = prefix.strip_suffix(b"/") {
            prefix = shorter;
        }
        Some(prefix)
    }

    /// Whether `Forwarded` says it.
    pub(crate) fn forwarded_says(&self, what: impl Fn(&Element<'b>) -> Option<&'b str>) -> bool {
        self.forwarded.iter().any(|element| what(element).is_some())
    }

    fn first(&self, name: &str) -> Option<&'b str> {
        let first = elements(self.values(name).next()?).next()?;
        std::str::from_utf8(first).ok()
    }
}

fn values<'b>(
    headers: &[httparse::Header<'b>],
    name: &str,
) -> impl DoubleEndedIterator<Item = &'b [u8]> {
    let is_it = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
    headers.iter().filter(is_it).map(|field| field.value)
}

/// Whether a claim is passed on as it is. `_` for `-` comes from someone before the proxy.
pub(crate) fn is_passed_on(name: &[u8]) -> bool {
    let is_forwarded = name
        .get(..FORWARDED_ANY.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(FORWARDED_ANY));
    is_forwarded && !name.contains(&b'_') && !name.eq_ignore_ascii_case(FORWARDED_FOR.as_bytes())
}

const FORWARDED_ANY: &[u8] = b"x-forwarded-";
