use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::app_name::AppName;
use crate::quote::quoted;
use crate::reason::Reason;

/// A relative path that stays below the directory it is joined to: an entrypoint inside a release.
///
/// No `..`, no leading `/`, no trailing `/`; `.` parts are dropped.
///
/// ```
/// use vela_manifest::EntryPath;
///
/// assert_eq!(EntryPath::parse("./bin/server")?.as_str(), "bin/server");
/// assert!(EntryPath::parse("../bin/server").is_err());
/// # Ok::<(), vela_manifest::EntryPathError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(String);

impl EntryPath {
    /// Reads a path and drops its `.` parts. That links may still lead out is for the file system's user to check.
    pub fn parse(path: &str) -> Result<Self, EntryPathError> {
        let error = |reason| EntryPathError {
            path: path.to_owned(),
            reason,
        };
        if path.is_empty() {
            return Err(error(EntryPathReason::Empty));
        }
        if path.starts_with('/') {
            return Err(error(EntryPathReason::Absolute));
        }
        if path.contains(|c: char| c.is_control()) {
            return Err(error(EntryPathReason::Control));
        }
        if path.ends_with('/') {
            return Err(error(EntryPathReason::Directory));
        }
        if path.split('/').any(|part| part == "..") {
            return Err(error(EntryPathReason::Parent));
        }
        let parts: Vec<_> = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if parts.is_empty() {
            return Err(error(EntryPathReason::Directory));
        }
        Ok(Self(parts.join("/")))
    }

    /// The path as text, parts joined by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl FromStr for EntryPath {
    type Err = EntryPathError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        Self::parse(path)
    }
}

impl From<&AppName> for EntryPath {
    fn from(name: &AppName) -> Self {
        Self(name.to_string())
    }
}

impl AsRef<Path> for EntryPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not an [`EntryPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a path inside the release: {reason}", quoted(path))]
#[non_exhaustive]
pub struct EntryPathError {
    /// The text that was refused.
    pub path: String,
    /// What is wrong with it.
    pub reason: EntryPathReason,
}

impl Reason for EntryPathError {}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryPathReason {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It starts with `/`.
    #[error("it starts with `/`")]
    Absolute,
    /// It contains `..`.
    #[error("`..` could leave it")]
    Parent,
    /// It names a directory.
    #[error("it names a directory")]
    Directory,
    /// It contains a control character.
    #[error("it contains a control character")]
    Control,
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_leaves_the_release() {
        for path in [
            "", "/", "/bin/sh", "..", "a/../b", "../a", "a/", ".", "./", "a\0b", "a\nb",
        ] {
            assert!(EntryPath::parse(path).is_err(), "{path:?}");
        }
        assert_eq!(
            EntryPath::parse(".//bin/./my_app").map(|p| p.to_string()),
            Ok("bin/my_app".into())
        );
    }

    proptest! {
        #[test]
        fn only_normal_components_are_left(path in "[a./ \\\\]{0,12}") {
            if let Ok(path) = EntryPath::parse(&path) {
                let mut parts = path.as_path().components();
                prop_assert!(parts.all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
