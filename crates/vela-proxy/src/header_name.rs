use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a header field, such as `CF-Connecting-IP`. Case does not count.
///
/// ```
/// let name: vela_proxy::HeaderName = "CF-Connecting-IP".parse()?;
/// assert_eq!(name, "cf-connecting-ip".parse()?);
/// # Ok::<(), vela_proxy::InvalidHeaderName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderName(Arc<str>);

/// A text that is no name of a header field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of a header")]
#[non_exhaustive]
pub struct InvalidHeaderName {
    /// The text as it was given.
    pub name: String,
}

impl HeaderName {
    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this name, or what CGI and WSGI servers take for it: to them `_` is `-`.
    pub(crate) fn is_like(&self, other: &[u8]) -> bool {
        let fold = |byte: &u8| match byte {
            b'_' => b'-',
            byte => byte.to_ascii_lowercase(),
        };
        self.0.len() == other.len()
            && self
                .0
                .as_bytes()
                .iter()
                .map(fold)
                .eq(other.iter().map(fold))
    }
}

impl FromStr for HeaderName {
    type Err = InvalidHeaderName;

    fn from_str(text: &str) -> Result<HeaderName, InvalidHeaderName> {
        // The characters of a token (RFC 9110, 5.6.2).
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match !text.is_empty() && text.bytes().all(is_token) {
            true => Ok(HeaderName(text.to_ascii_lowercase().into())),
            false => Err(InvalidHeaderName {
                name: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token() {
        for text in ["", "a b", "a:", "a\r\n", "ä", "\"a\"", "a/b"] {
            assert!(text.parse::<HeaderName>().is_err(), "{text:?}");
        }
        let name: HeaderName = "True-Client_IP".parse().unwrap();
        assert_eq!(name.to_string(), "true-client_ip");
        for like in ["true-client_ip", "TRUE_CLIENT-IP"] {
            assert!(name.is_like(like.as_bytes()), "{like}");
        }
        for other in ["true-client-i", "true-client-ips", "true.client-ip"] {
            assert!(!name.is_like(other.as_bytes()), "{other}");
        }
    }
}
