use std::fmt;
use std::str::FromStr;

/// The paths that a route answers for: those that begin with all of its segments.
///
/// Paths are compared as they were sent: case counts, and nothing is decoded or resolved.
///
/// ```
/// let api: vela_proxy::PathPrefix = "/api/".parse()?;
/// assert!(api.matches("/api") && api.matches("/api/users?all"));
/// assert!(!api.matches("/apis"));
/// assert!(vela_proxy::PathPrefix::default().matches("/anything"));
/// # Ok::<(), vela_proxy::InvalidPath>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPrefix(Box<str>);

/// A text that is no path to begin others with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path:?} is not a path prefix: it begins with a slash, and has no query, empty or dot segments"
)]
#[non_exhaustive]
pub struct InvalidPath {
    /// The text as it was given.
    pub path: String,
}

impl PathPrefix {
    /// Whether a request's target, with or without a query, is under it. `*` is under `/` only.
    pub fn matches(&self, target: &str) -> bool {
        self.rest(target).is_some()
    }

    /// The target without the prefix, if it is under it.
    pub(crate) fn rest<'a>(&self, target: &'a str) -> Option<&'a str> {
        let rest = target.strip_prefix(&*self.0)?;
        (self.0.is_empty() || rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
    }

    /// The prefix; `/` is the one of all paths.
    pub fn as_str(&self) -> &str {
        match &*self.0 {
            "" => "/",
            prefix => prefix,
        }
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<PathPrefix, InvalidPath> {
        let prefix = text.strip_suffix('/').unwrap_or(text);
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"?#%\\\"<>^`{|}".contains(&byte))
        };
        let is_valid = match prefix.strip_prefix('/') {
            None => text == "/",
            Some(segments) => segments.split('/').all(is_segment),
        };
        match is_valid {
            true => Ok(PathPrefix(prefix.into())),
            false => Err(InvalidPath {
                path: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_compared_whole() {
        let prefix: PathPrefix = "/a/b".parse().unwrap();
        for (target, rest) in [
            ("/a/b", Some("")),
            ("/a/b/", Some("/")),
            ("/a/b/c?d", Some("/c?d")),
            ("/a/b?x=/a", Some("?x=/a")),
            ("/a/bc", None),
            ("/a", None),
            ("/A/b", None),
            ("*", None),
            ("/", None),
        ] {
            assert_eq!(prefix.rest(target), rest, "{target}");
        }
        assert_eq!(PathPrefix::default().rest("*"), Some("*"));
        assert_eq!("/".parse(), Ok(PathPrefix::default()));
        assert_eq!("/a/".parse::<PathPrefix>().unwrap().as_str(), "/a");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_prefix() {
        for text in [
            "", "a", "//", "/a//b", "/a/..", "/./a", "/a?", "/a#", "/a b", "/%61", "/ä", "/a\\b",
        ] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text:?}");
        }
    }
}
