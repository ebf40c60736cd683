use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::{Host, HostPattern};

/// A name that a certificate can be for: `shop.example.com`, or `*.example.com` for all names with
/// one more label. Lower case.
///
/// ```
/// use vela_proxy::tls::DnsName;
///
/// let name: DnsName = "*.Example.com".parse()?;
/// assert!(name.covers("shop.example.com"));
/// assert!(!name.covers("example.com"));
/// assert!(!name.covers("a.shop.example.com"));
/// # Ok::<(), vela_proxy::tls::InvalidDnsName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Box<str>);

impl DnsName {
    /// Parses a name in any case, with or without a trailing dot.
    ///
    /// # Errors
    /// When it is not a DNS name with a star at most in place of its first label. An address is none.
    pub fn parse(text: &str) -> Result<DnsName, InvalidDnsName> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        let is_address = labels.parse::<std::net::IpAddr>().is_ok();
        let starred_top = name.len() != labels.len() && !labels.contains('.');
        if name.len() > 253 || is_address || starred_top || !labels.split('.').all(is_label) {
            return Err(InvalidDnsName {
                name: text.to_owned(),
            });
        }
        Ok(DnsName(name.into()))
    }

    /// The text, with the star.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a star.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name without the star.
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }

    /// Whether a certificate for this name is good for that host, in lower case; for a host with a
    /// star, whether it is that name itself.
    pub fn covers(&self, host: &str) -> bool {
        if *self.0 == *host {
            return true;
        }
        match (self.0.strip_prefix("*."), host.split_once('.')) {
            (Some(base), Some((first, rest))) => rest == base && first != "*" && !first.is_empty(),
            _ => false,
        }
    }
}

impl FromStr for DnsName {
    type Err = InvalidDnsName;

    fn from_str(text: &str) -> Result<DnsName, InvalidDnsName> {
        DnsName::parse(text)
    }
}

impl TryFrom<&HostPattern> for DnsName {
    type Error = InvalidDnsName;

    fn try_from(pattern: &HostPattern) -> Result<DnsName, InvalidDnsName> {
        DnsName::parse(&pattern.to_string())
    }
}

impl TryFrom<&Host> for DnsName {
    type Error = InvalidDnsName;

    fn try_from(host: &Host) -> Result<DnsName, InvalidDnsName> {
        DnsName::parse(host.as_str())
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// So that tables are looked up by what a handshake holds.
impl Borrow<str> for DnsName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What is not a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a DNS name")]
pub struct InvalidDnsName {
    /// The text that was to be parsed.
    pub name: String,
}

fn is_label(label: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(sound)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_or_refused() {
        for (text, name) in [
            ("Shop.Test.", "shop.test"),
            ("*.A.test", "*.a.test"),
            ("localhost", "localhost"),
            ("_acme.a-b.test", "_acme.a-b.test"),
        ] {
            assert_eq!(DnsName::parse(text).unwrap().as_str(), name);
        }
        for text in [
            "",
            ".",
            "*",
            "*.test",
            "a.*.test",
            "*a.test",
            "a..test",
            "-a.test",
            "a b.test",
            "ü.test",
            "127.0.0.1",
            "::1",
            "../a",
            "a/b.test",
        ] {
            assert!(DnsName::parse(text).is_err(), "{text}");
        }
    }
}
