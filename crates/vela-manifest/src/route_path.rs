use std::fmt;
use std::str::FromStr;

use crate::quote::quoted;
use crate::reason::Reason;

/// What the paths of an app's requests begin with: `/api` stands for itself and for all below `/api/`,
/// not for `/apis`.
///
/// Starts with `/`, and ends without one unless it is `/`, which stands for every path. Parts of the
/// characters that RFC 3986 allows in a path as they are: neither percent-encoded, nor `.` or `..`, nor
/// empty, because a client or an app could spell or understand those in another way.
///
/// ```
/// use vela_manifest::RoutePath;
///
/// assert_eq!(RoutePath::parse("/api/v1/")?.as_str(), "/api/v1");
/// assert!(RoutePath::parse("/")?.is_root());
/// assert!(RoutePath::parse("/api/../admin").is_err());
/// # Ok::<(), vela_manifest::RoutePathError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutePath(String);

impl RoutePath {
    /// The longest path, in bytes.
    pub const MAX_LEN: usize = 255;

    /// Reads a path and drops its final `/`.
    pub fn parse(path: &str) -> Result<Self, RoutePathError> {
        let error = |reason| RoutePathError {
            path: path.to_owned(),
            reason,
        };
        let Some(below_root) = path.strip_prefix('/') else {
            return Err(error(RoutePathReason::Relative));
        };
        if let Some(bad) = below_root.chars().find(|c| !is_plain(*c)) {
            return Err(error(match bad {
                '%' => RoutePathReason::Encoded,
                bad => RoutePathReason::Character(bad),
            }));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        for part in path.split('/').skip(1) {
            match part {
                "" => return Err(error(RoutePathReason::EmptyPart)),
                "." | ".." => return Err(error(RoutePathReason::Dots)),
                _ => {}
            }
        }
        if path.len() > Self::MAX_LEN {
            return Err(error(RoutePathReason::Length));
        }
        Ok(match path {
            "" => Self::default(),
            path => Self(path.to_owned()),
        })
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for every path.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

impl Default for RoutePath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl FromStr for RoutePath {
    type Err = RoutePathError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Self::parse(path)
    }
}

impl AsRef<str> for RoutePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `pchar` of RFC 3986 but `%`, and `*`, which would be taken for a pattern; or the `/` between parts.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@/".contains(c)
}

/// Why a text is not a [`RoutePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a path to route by: {reason}", quoted(path))]
#[non_exhaustive]
pub struct RoutePathError {
    /// The text that was refused.
    pub path: String,
    /// What is wrong with it.
    pub reason: RoutePathReason,
}

impl RoutePathError {
    /// What to write instead, if that can be told.
    pub fn hint(&self) -> Option<String> {
        let meant = match self.path.split_once("://") {
            // Of a URL the path; without one it was a host that was meant.
            Some((_, rest)) => rest.split_at(rest.find('/')?).1,
            None => self.path.as_str(),
        };
        let meant = meant.split(['?', '#', '*']).next()?;
        let parts: Vec<_> = meant.split('/').filter(|part| !part.is_empty()).collect();
        RoutePath::parse(&format!("/{}", parts.join("/")))
            .ok()
            .filter(|meant| !meant.is_root())
            .map(|meant| format!("did you mean `{meant}`?"))
    }
}

impl Reason for RoutePathError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoutePathReason {
    /// It does not start with `/`.
    #[error("it does not start with `/`")]
    Relative,
    /// A character that is not allowed.
    #[error("{0:?} is not allowed")]
    Character(char),
    /// A percent-encoded character, which an app could read in another way.
    #[error("nothing in it may be percent-encoded")]
    Encoded,
    /// Two `/` in a row.
    #[error("it contains `//`")]
    EmptyPart,
    /// It contains `.` or `..`, which clients resolve before they ask.
    #[error("`.` and `..` are not allowed")]
    Dots,
    /// It is too long.
    #[error("it is longer than {} characters", RoutePath::MAX_LEN)]
    Length,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_could_be_understood_in_two_ways() {
        for path in [
            "",
            "api",
            "//",
            "/a//b",
            "//a",
            "/a//",
            "/.",
            "/..",
            "/a/../b",
            "/a/.",
            "/a?b",
            "/a#b",
            "/a%2fb",
            "/a b",
            "/a\\b",
            "/a\0",
            "/a\n",
            "/ä",
            "/a/*",
            "/<a>",
            "https://a.b/c",
        ] {
            assert!(RoutePath::parse(path).is_err(), "{path:?}");
        }
        assert!(RoutePath::parse(&format!("/{}", "a".repeat(255))).is_err());
        assert_eq!(
            RoutePath::parse("/a.b/..c/")
                .as_ref()
                .map(RoutePath::as_str),
            Ok("/a.b/..c")
        );
    }

    #[test]
    fn suggests_the_path_that_was_meant() {
        let hint = |path| RoutePath::parse(path).expect_err("not a path").hint();
        for path in [
            "api",
            "/api/*",
            "/api?x=1",
            "//api//",
            "https://a.b/api",
            "api/#top",
        ] {
            assert_eq!(
                hint(path).as_deref(),
                Some("did you mean `/api`?"),
                "{path}"
            );
        }
        for path in ["", "/a b", "/../a", "https://a.b", "*"] {
            assert_eq!(hint(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(path in "[a./%*?: ä]{0,12}") {
            match RoutePath::parse(&path) {
                Ok(parsed) => {
                    prop_assert!(parsed.is_root() || !parsed.as_str().ends_with('/'));
                    prop_assert_eq!(RoutePath::parse(parsed.as_str()), Ok(parsed.clone()));
                }
                Err(error) => { error.hint(); }
            }
        }
    }
}
