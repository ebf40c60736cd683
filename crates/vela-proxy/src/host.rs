use std::borrow::{Borrow, Cow};
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use memchr::memchr;

/// A host that requests are routed by: lower case, with no port and no trailing dot.
///
/// ```
/// let host: vela_proxy::Host = "Shop.Example.com.:8080".parse()?;
/// assert_eq!(host.as_str(), "shop.example.com");
/// # Ok::<(), vela_proxy::InvalidHost>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Box<str>);

impl Host {
    /// Parses a host as users and `Host` headers write it: any case, with or without a port or a
    /// trailing dot. IPv6 addresses are in brackets.
    ///
    /// # Errors
    /// When the text is neither a host name nor an address.
    pub fn parse(text: &str) -> Result<Host, InvalidHost> {
        match normalise(text) {
            Some(host) => Ok(Host(host.into())),
            None => Err(InvalidHost {
                host: text.to_owned(),
            }),
        }
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Host, InvalidHost> {
        Host::parse(text)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Host {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// So that the table is looked up by what the request holds, without an allocation.
impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A text that is no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host:?} is not a host name")]
#[non_exhaustive]
pub struct InvalidHost {
    /// The text as it was given.
    pub host: String,
}

/// The normal form of a host with an optional port; borrowed when it already is in that form.
pub(crate) fn normalise(text: &str) -> Option<Cow<'_, str>> {
    if text.starts_with('[') {
        return normalise_ipv6(text);
    }
    let name = match memchr(b':', text.as_bytes()) {
        Some(at) if is_port(&text[at + 1..]) => &text[..at],
        Some(_) => return None,
        None => text,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    let mut upper = false;
    let mut label = 0;
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => {
                upper = true;
                label += 1;
            }
            b'.' if label > 0 => label = 0,
            _ => return None,
        }
        if label > 63 {
            return None;
        }
    }
    if label == 0 {
        return None;
    }
    Some(if upper {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

fn normalise_ipv6(text: &str) -> Option<Cow<'_, str>> {
    let (addr, rest) = text.strip_prefix('[')?.split_once(']')?;
    match rest.strip_prefix(':') {
        Some(port) if !is_port(port) => return None,
        None if !rest.is_empty() => return None,
        _ => {}
    }
    let addr: Ipv6Addr = addr.parse().ok()?;
    Some(Cow::Owned(format!("[{addr}]")))
}

/// The port may be empty: `example.com:` is valid (RFC 3986, 3.2.3).
fn is_port(text: &str) -> bool {
    text.len() <= 5
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.is_empty() || text.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_port_and_trailing_dot_do_not_count() {
        for text in [
            "App.Test",
            "app.test.",
            "app.test:80",
            "APP.test.:8080",
            "app.test:",
        ] {
            assert_eq!(Host::parse(text).unwrap().as_str(), "app.test", "{text}");
        }
        assert_eq!(Host::parse("[::0001]:80").unwrap().as_str(), "[::1]");
        assert_eq!(Host::parse("127.0.0.1:9").unwrap().as_str(), "127.0.0.1");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = format!("{}.test", "a".repeat(64));
        for text in [
            "", ".", "..", "a..b", ".a", "a b", "a/b", "a@b", "a:b", "a:80:80", "a:99999", "::1",
            "[::1", "[::1]x", "[x]", "a,b", "ä.test", "a\0", "a#b", "a?b", "*.a", &long,
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_normal_host_is_not_copied() {
        assert!(matches!(
            normalise("app.test:80"),
            Some(Cow::Borrowed("app.test"))
        ));
    }
}
