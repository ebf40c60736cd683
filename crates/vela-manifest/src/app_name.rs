use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::quote::quoted;
use crate::reason::Reason;

/// The name of an app: what directories, users, commands and logs call it.
///
/// Lower-case ASCII letters, digits and `-`; starts with a letter, does not end with `-`, 63 bytes at
/// most. So a name is always one safe path component and one DNS label.
///
/// ```
/// use vela_manifest::AppName;
///
/// let name: AppName = "my-app".parse()?;
/// assert_eq!(name.as_str(), "my-app");
/// assert!("../x".parse::<AppName>().is_err());
/// # Ok::<(), vela_manifest::AppNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

impl AppName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 63;

    /// Reads a name; nothing is normalised.
    pub fn parse(name: &str) -> Result<Self, AppNameError> {
        let error = |reason| AppNameError {
            name: name.to_owned(),
            reason,
        };
        let first = name
            .chars()
            .next()
            .ok_or_else(|| error(AppNameReason::Empty))?;
        if let Some(bad) = name
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-'))
        {
            return Err(error(AppNameReason::Character(bad)));
        }
        if !first.is_ascii_lowercase() {
            return Err(error(AppNameReason::Start));
        }
        if name.ends_with('-') {
            return Err(error(AppNameReason::End));
        }
        if name.len() > Self::MAX_LEN {
            return Err(error(AppNameReason::Length));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = AppNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl TryFrom<String> for AppName {
    type Error = AppNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name)
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> Self {
        name.0
    }
}

impl AsRef<str> for AppName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not an [`AppName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be an app's name: {reason}", quoted(name))]
#[non_exhaustive]
pub struct AppNameError {
    /// The text that was refused.
    pub name: String,
    /// What is wrong with it.
    pub reason: AppNameReason,
}

impl AppNameError {
    /// A name nearby that would do, if there is one.
    pub fn hint(&self) -> Option<String> {
        let lowered = self
            .name
            .trim()
            .to_ascii_lowercase()
            .replace(['_', '.', ' '], "-");
        let near = lowered.trim_matches('-');
        AppName::parse(near)
            .ok()
            .map(|name| format!("did you mean `{name}`?"))
    }
}

impl Reason for AppNameError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

/// What is wrong with an app's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppNameReason {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// A character that is not allowed.
    #[error("only a-z, 0-9 and `-` are allowed, not {0:?}")]
    Character(char),
    /// It starts with a digit or a hyphen.
    #[error("it must start with a letter")]
    Start,
    /// It ends with a hyphen.
    #[error("it must not end with `-`")]
    End,
    /// It is too long.
    #[error("it is longer than {} characters", AppName::MAX_LEN)]
    Length,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_could_leave_a_directory() {
        for name in [
            "", "../x", "a/b", ".", "a b", "a\0", "-a", "a-", "1a", "A", "ä", "a_b",
        ] {
            assert!(AppName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn suggests_a_name_nearby() {
        let error = AppName::parse("My_App").expect_err("upper case");
        assert_eq!(
            error.to_string(),
            "`My_App` cannot be an app's name: only a-z, 0-9 and `-` are allowed, not 'M'"
        );
        assert_eq!(error.hint().as_deref(), Some("did you mean `my-app`?"));
        assert_eq!(AppName::parse("../x").expect_err("a path").hint(), None);
    }

    #[test]
    fn serde_goes_through_parse() {
        assert!(toml::from_str::<std::collections::BTreeMap<String, AppName>>("a = 'ok'").is_ok());
        assert!(
            toml::from_str::<std::collections::BTreeMap<String, AppName>>("a = '../x'").is_err()
        );
    }

    proptest! {
        #[test]
        fn accepts_exactly_the_documented_names(name in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?") {
            prop_assert_eq!(AppName::parse(&name).map(|n| n.to_string()), Ok(name));
        }

        #[test]
        fn an_accepted_name_is_as_documented(name in ".{0,70}") {
            if AppName::parse(&name).is_ok() {
                prop_assert!(name.len() <= 63 && name.as_bytes()[0].is_ascii_lowercase() && !name.ends_with('-'));
                prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
        }

        #[test]
        fn too_long_is_refused(name in "[a-z]{64,80}") {
            prop_assert!(AppName::parse(&name).is_err());
        }
    }
}
