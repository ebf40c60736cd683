use std::fmt;
use std::str::FromStr;

use crate::{Host, InvalidHost};

/// Which hosts a route answers for.
///
/// ```
/// let pattern: vela_proxy::HostPattern = "*.example.com".parse()?;
/// assert!(pattern.matches(&"shop.example.com".parse()?));
/// assert!(!pattern.matches(&"example.com".parse()?));
/// assert!(!pattern.matches(&"a.shop.example.com".parse()?));
/// # Ok::<(), vela_proxy::InvalidHost>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one.
    Exact(Host),
    /// Those with one label before this one, as a wildcard certificate has it (RFC 9525, 6.3).
    /// A route for the exact host comes first.
    Below(Host),
}

impl HostPattern {
    /// Whether the host is one of them.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            HostPattern::Exact(own) => own == host,
            HostPattern::Below(domain) => parent(host.as_str()) == Some(domain.as_str()),
        }
    }

    /// The host, if it is one and no wildcard.
    pub fn exact(&self) -> Option<&Host> {
        match self {
            HostPattern::Exact(host) => Some(host),
            HostPattern::Below(_) => None,
        }
    }
}

/// What stands behind the first label of a normalised host.
pub(crate) fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

impl From<Host> for HostPattern {
    fn from(host: Host) -> HostPattern {
        HostPattern::Exact(host)
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    /// A host, or `*.` before one.
    fn from_str(text: &str) -> Result<HostPattern, InvalidHost> {
        match text.strip_prefix("*.") {
            None => text.parse().map(HostPattern::Exact),
            Some(domain) => match domain.parse::<Host>() {
                Ok(host) if !host.as_str().starts_with('[') => Ok(HostPattern::Below(host)),
                _ => Err(InvalidHost {
                    host: text.to_owned(),
                }),
            },
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => host.fmt(f),
            HostPattern::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let pattern: HostPattern = "*.A.test.".parse().unwrap();
        assert_eq!(pattern.to_string(), "*.a.test");
        for (host, matches) in [
            ("b.a.test", true),
            ("B.A.TEST:80", true),
            ("a.test", false),
            ("c.b.a.test", false),
            ("xa.test", false),
        ] {
            assert_eq!(pattern.matches(&host.parse().unwrap()), matches, "{host}");
        }
        for text in [
            "*",
            "*.",
            "a.*.test",
            "**.a.test",
            "*.*.test",
            "*.[::1]",
            "*a.test",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
