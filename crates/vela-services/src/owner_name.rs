use std::fmt;
use std::str::FromStr;

/// Who a service is provisioned for: the name of an application.
///
/// Lower-case letters, digits and `-`, at most 63 bytes, starting with a letter and not ending
/// with `-`: it can be part of a file name, a user name or a database name as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerName(String);

/// A text that is not an [`OwnerName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not a name of lower-case letters, digits and `-` that starts with a letter, \
     does not end with `-` and has at most 63 bytes"
)]
pub struct InvalidOwnerName {
    name: String,
}

impl OwnerName {
    /// The owner called `name`.
    ///
    /// # Errors
    ///
    /// If it is not such a name.
    pub fn parse(name: &str) -> Result<Self, InvalidOwnerName> {
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_name = name.len() <= 63
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.bytes().all(allowed);
        if is_name {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidOwnerName {
                name: name.chars().take(80).collect(),
            })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OwnerName {
    type Err = InvalidOwnerName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl AsRef<str> for OwnerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_names() {
        for name in ["a", "my-app-2", &"a".repeat(63)] {
            assert_eq!(OwnerName::parse(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(64);
        for name in [
            "", "2a", "-a", "a-", "A", "a_b", "../x", "a/b", "a b", "a\0", "é", &long,
        ] {
            assert!(OwnerName::parse(name).is_err(), "{name:?}");
        }
    }
}
