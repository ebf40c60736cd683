use std::fmt;
use std::str::FromStr;

use crate::quote::quoted;
use crate::reason::Reason;

/// The name of an HTTP header, in lower case: a token of RFC 9110, section 5.6.2.
///
/// ```
/// use vela_manifest::HeaderName;
///
/// assert_eq!("CF-Connecting-IP".parse::<HeaderName>()?.as_str(), "cf-connecting-ip");
/// assert!("CF Connecting IP".parse::<HeaderName>().is_err());
/// # Ok::<(), vela_manifest::HeaderNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl HeaderName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 256;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = HeaderNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() || name.len() > Self::MAX_LEN || !name.bytes().all(is_token) {
            return Err(HeaderNameError {
                name: name.to_owned(),
            });
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl AsRef<str> for HeaderName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`HeaderName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the name of a header", quoted(name))]
#[non_exhaustive]
pub struct HeaderNameError {
    /// The text that was refused.
    pub name: String,
}

impl HeaderNameError {
    /// What to write instead, if that can be told.
    pub fn hint(&self) -> Option<String> {
        let name = self.name.split(':').next()?.trim();
        name.parse()
            .ok()
            .map(|_: HeaderName| format!("did you mean `{name}`?"))
    }
}

impl Reason for HeaderNameError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_token() {
        for name in [
            "", "a b", "a:", "a: b", " a", "a\t", "a\n", "a\0", "a(b)", "ä", "a,b", "\"a\"", "a/b",
        ] {
            assert!(name.parse::<HeaderName>().is_err(), "{name:?}");
        }
        assert!("a".repeat(257).parse::<HeaderName>().is_err());
        assert_eq!(
            "X-Real_IP!".parse().map(|n: HeaderName| n.to_string()),
            Ok("x-real_ip!".into())
        );
        let hint = |name: &str| name.parse::<HeaderName>().expect_err(name).hint();
        assert_eq!(
            hint("X-Client-IP: ").as_deref(),
            Some("did you mean `X-Client-IP`?")
        );
        assert_eq!(hint("a b"), None);
    }
}
