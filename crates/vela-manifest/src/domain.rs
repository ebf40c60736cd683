use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::quote::quoted;
use crate::reason::Reason;

/// A host name that requests are routed by, in lower case.
///
/// ASCII labels of letters, digits and `-`, joined by dots, 253 bytes at most; or a wildcard for one
/// label, `*.example.com`. No scheme, port, path or final dot.
///
/// ```
/// use vela_manifest::Domain;
///
/// assert_eq!(Domain::parse("My-App.COM")?.as_str(), "my-app.com");
/// assert!(Domain::parse("*.my-app.com")?.is_wildcard());
/// assert!(Domain::parse("https://my-app.com/").is_err());
/// # Ok::<(), vela_manifest::DomainError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 253;

    /// Reads a name and lower-cases it.
    pub fn parse(name: &str) -> Result<Self, DomainError> {
        let error = |reason| DomainError {
            name: name.to_owned(),
            reason,
        };
        if name.is_empty() {
            return Err(error(DomainReason::Empty));
        }
        let host = name.strip_prefix("*.").unwrap_or(name);
        if let Some(bad) = host
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')))
        {
            return Err(error(DomainReason::Character(bad)));
        }
        if host.split('.').any(|label| {
            label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-')
        }) {
            return Err(error(DomainReason::Label));
        }
        if host.len() < name.len() && !host.contains('.') {
            return Err(error(DomainReason::Wildcard));
        }
        if name.len() > Self::MAX_LEN {
            return Err(error(DomainReason::Length));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this stands for every name one label below, as in `*.example.com`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`Domain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a host name: {reason}", quoted(name))]
#[non_exhaustive]
pub struct DomainError {
    /// The text that was refused.
    pub name: String,
    /// What is wrong with it.
    pub reason: DomainReason,
}

impl DomainError {
    /// What to write instead, if that can be told.
    pub fn hint(&self) -> Option<String> {
        if !self.name.is_ascii() {
            return Some("write an international name in its `xn--` form".to_owned());
        }
        let rest = self
            .name
            .trim()
            .split_once("://")
            .map_or(self.name.trim(), |(_, rest)| rest);
        let host = rest
            .split(['/', ':', '?', '#'])
            .next()?
            .trim_end_matches('.');
        match Domain::parse(host) {
            Ok(domain) => Some(format!("did you mean `{domain}`?")),
            Err(_) if host.contains('*') => {
                Some("a wildcard is `*.` and at least two parts, as in `*.example.com`".to_owned())
            }
            Err(_) => None,
        }
    }
}

impl Reason for DomainError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

/// What is wrong with a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainReason {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// A character that is not allowed.
    #[error("{0:?} is not allowed")]
    Character(char),
    /// A part between dots is empty, over 63 bytes long, or starts or ends with a hyphen.
    #[error("each part between dots has 1 to 63 characters and no `-` at its ends")]
    Label,
    /// A wildcard over a whole top-level domain.
    #[error("a wildcard needs at least two parts after `*.`")]
    Wildcard,
    /// It is too long.
    #[error("it is longer than {} characters", Domain::MAX_LEN)]
    Length,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_not_a_host_name() {
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a.b",
            "a-.b",
            "a b",
            "a/b",
            "a:80",
            "https://a.b",
            "*",
            "*.com",
            "a.*.b",
            "*a.b.c",
            "ä.de",
            "a_b.c",
            "a.b\n",
        ] {
            assert!(Domain::parse(name).is_err(), "{name:?}");
        }
        assert!(Domain::parse(&format!("{}.a", "a".repeat(64))).is_err());
        assert!(Domain::parse(&["abcdefgh"; 29].join(".")).is_err());
    }

    #[test]
    fn suggests_the_host_of_a_url() {
        let hint = |name| Domain::parse(name).expect_err("not a host").hint();
        assert_eq!(
            hint("https://My-App.com:443/x").as_deref(),
            Some("did you mean `my-app.com`?")
        );
        assert_eq!(
            hint("my-app.com.").as_deref(),
            Some("did you mean `my-app.com`?")
        );
        assert_eq!(
            hint("bücher.de").as_deref(),
            Some("write an international name in its `xn--` form")
        );
        assert_eq!(
            hint("http://*.My-App.com").as_deref(),
            Some("did you mean `*.my-app.com`?")
        );
        for wildcard in ["*", "*.com", "*.", "a.*.b", "*a.b.c", "*.*.a.b"] {
            assert_eq!(
                hint(wildcard).as_deref(),
                Some("a wildcard is `*.` and at least two parts, as in `*.example.com`"),
                "{wildcard}"
            );
        }
        assert_eq!(hint("a b"), None);
    }

    proptest! {
        #[test]
        fn host_names_are_accepted_and_lowered(
            name in "([a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?\\.){0,4}[a-zA-Z][a-zA-Z0-9]{0,10}"
        ) {
            prop_assert_eq!(Domain::parse(&name).map(|d| d.to_string()), Ok(name.to_ascii_lowercase()));
        }

        #[test]
        fn parsing_is_idempotent_and_never_panics(name in ".{0,260}") {
            match Domain::parse(&name) {
                Ok(domain) => prop_assert_eq!(Domain::parse(domain.as_str()), Ok(domain.clone())),
                Err(error) => { error.hint(); }
            }
        }
    }
}
