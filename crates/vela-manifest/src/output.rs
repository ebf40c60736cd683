use std::fmt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use crate::app_name::AppName;
use crate::build_tool::BuildTool;
use crate::entry_path::{EntryPath, EntryPathReason};
use crate::quote::quoted;
use crate::reason::Reason;
use crate::value::{Found, Value};

/// `build.output`: what of a built tree becomes the release.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The whole tree: the source, and what the build made beside it.
    Tree,
    /// One file or directory, which becomes the release as an artifact does.
    Path(EntryPath),
    /// The directory `name` below `within`, or else the only one that is there.
    Named {
        /// The directory that releases are made in.
        within: EntryPath,
        /// What this one is expected to be called.
        name: String,
    },
    /// What one of the patterns matches. It keeps its path; a directory is taken with all that is in it.
    Matching(Vec<OutputPattern>),
}

impl Output {
    pub(crate) fn read(value: &Value<'_>) -> Option<Self> {
        match value.found() {
            Found::Array => {
                let items = value.items()?;
                if items.is_empty() {
                    value.report(
                        "a release of nothing",
                        Some("leave the key out for what the build makes"),
                    );
                }
                // Every item is read, so that every problem is told.
                let patterns: Vec<_> = items
                    .iter()
                    .map(|item| item.parse_with(OutputPattern::parse))
                    .collect();
                let patterns: Option<_> = patterns.into_iter().collect();
                patterns.map(Self::Matching)
            }
            Found::String => value.parse_with(Self::parse),
            _ => {
                value.mismatch("a path, a pattern, or an array of them");
                None
            }
        }
    }

    fn parse(text: &str) -> Result<Self, OutputError> {
        if is_pattern(text) {
            return OutputPattern::parse(text).map(|pattern| Self::Matching(vec![pattern]));
        }
        Ok(match path(text)? {
            Some(path) => Self::Path(path),
            None => Self::Tree,
        })
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree => f.write_str("."),
            Self::Path(path) => path.fmt(f),
            Self::Named { within, name } => write!(f, "{within}/{name}"),
            Self::Matching(patterns) => {
                for (index, pattern) in patterns.iter().enumerate() {
                    write!(f, "{}{pattern}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// What a build with `tool` makes, when the manifest does not say.
pub(crate) fn default_output(
    tool: Option<BuildTool>,
    app: &AppName,
    binary: &EntryPath,
    mix_env: &str,
) -> Output {
    let below = |dir: &str, what: &str| EntryPath::parse(&format!("{dir}/{what}")).ok();
    let output = match tool {
        Some(BuildTool::Cargo) => below("target/release", binary.as_str()).map(Output::Path),
        Some(BuildTool::Mix) => {
            below("_build", &format!("{mix_env}/rel")).map(|within| Output::Named {
                within,
                name: app.as_str().replace('-', "_"),
            })
        }
        None => None,
    };
    // What is no path, such as an environment of Mix called `..`, names nothing.
    output.unwrap_or(Output::Tree)
}

/// A path below the root of a tree, or a pattern of such paths.
///
/// `*` and `?` stand for characters of one name, `[a-z]` for one of them, `{a,b}` for either, and `**` for any number of
/// directories.
///
/// ```
/// use std::path::Path;
/// use vela_manifest::OutputPattern;
///
/// let pattern: OutputPattern = "dist/**/*.js".parse()?;
/// assert!(pattern.matches(Path::new("dist/app/main.js")));
/// assert!(!pattern.matches(Path::new("dist/main.css")));
/// assert!(pattern.may_match_below(Path::new("dist/app")));
/// assert!(!pattern.may_match_below(Path::new("node_modules")));
/// assert!("../dist".parse::<OutputPattern>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct OutputPattern {
    text: String,
    /// The names that it begins with, none of which is a pattern.
    fixed: String,
    glob: Option<GlobMatcher>,
}

impl OutputPattern {
    fn parse(text: &str) -> Result<Self, OutputError> {
        let normal = path(text)?.ok_or(OutputError::Whole)?.to_string();
        if !is_pattern(&normal) {
            let (text, fixed, glob) = (normal.clone(), normal, None);
            return Ok(Self { text, fixed, glob });
        }
        let glob = GlobBuilder::new(&normal)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| OutputError::Pattern {
                text: text.to_owned(),
                why: error.kind().to_string(),
            })?;
        let fixed: Vec<_> = normal
            .split('/')
            .take_while(|part| !is_pattern(part))
            .collect();
        Ok(Self {
            fixed: fixed.join("/"),
            glob: Some(glob.compile_matcher()),
            text: normal,
        })
    }

    /// As it was written, without `.` parts.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches a path, which is relative to the root of the tree.
    pub fn matches(&self, path: &Path) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(path),
            None => path == Path::new(&self.fixed),
        }
    }

    /// Whether it may match something in a directory: where it can't, nobody needs to look.
    pub fn may_match_below(&self, directory: &Path) -> bool {
        let fixed = Path::new(&self.fixed);
        let on_the_way =
            fixed.starts_with(directory) && (self.glob.is_some() || fixed != directory);
        on_the_way || (self.glob.is_some() && directory.starts_with(fixed))
    }
}

impl std::str::FromStr for OutputPattern {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for OutputPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for OutputPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputPattern({:?})", self.text)
    }
}

impl PartialEq for OutputPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for OutputPattern {}

/// Why a text is no path or pattern of a build's output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A path that is none, or leads out of the tree.
    #[error("{} is not a path inside the source: {reason}", quoted(text))]
    Path {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: EntryPathReason,
    },
    /// A pattern that is none.
    #[error("{} is not a pattern: {why}", quoted(text))]
    Pattern {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The whole tree, as one pattern of several.
    #[error("`.` is the whole tree already")]
    Whole,
}

impl Reason for OutputError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Whole => Some(r#"output = ".""#.to_owned()),
            _ => None,
        }
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// A path below the root, or nothing for the root itself. Unlike an entrypoint it may end with a `/`.
fn path(text: &str) -> Result<Option<EntryPath>, OutputError> {
    let is_root = !text.is_empty()
        && !text.starts_with('/')
        && text.split('/').all(|part| matches!(part, "" | "."));
    if is_root {
        return Ok(None);
    }
    let trimmed = match text.trim_end_matches('/') {
        "" => text,
        trimmed => trimmed,
    };
    let parsed = EntryPath::parse(trimmed);
    parsed.map(Some).map_err(|error| OutputError::Path {
        text: text.to_owned(),
        reason: error.reason,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> OutputPattern {
        text.parse().expect(text)
    }

    #[test]
    fn a_path_is_one_thing_and_a_pattern_many() {
        assert_eq!(Output::parse("."), Ok(Output::Tree));
        assert_eq!(Output::parse("./"), Ok(Output::Tree));
        assert!(
            matches!(Output::parse("./dist/"), Ok(Output::Path(path)) if path.as_str() == "dist")
        );
        assert!(
            matches!(Output::parse("dist/*"), Ok(Output::Matching(patterns)) if patterns.len() == 1)
        );
        for text in ["", "/", "/dist", "..", "a/../b", "a\nb", "../*", "/*"] {
            assert!(
                matches!(Output::parse(text), Err(OutputError::Path { .. })),
                "{text:?}"
            );
        }
        for text in ["a[", "{a,b"] {
            assert!(
                matches!(Output::parse(text), Err(OutputError::Pattern { .. })),
                "{text:?}"
            );
        }
        assert_eq!("./".parse::<OutputPattern>(), Err(OutputError::Whole));
    }

    #[test]
    fn patterns_match_whole_paths() {
        let cases = [
            ("dist", "dist", true),
            ("dist", "dist/a", false),
            ("dist/*", "dist/a", true),
            ("dist/*", "dist/a/b", false),
            ("dist/**", "dist/a/b", true),
            ("**/*.so", "priv/lib/a.so", true),
            ("**/*.so", "a.so", true),
            ("{bin,lib}/*", "lib/a", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
        ];
        for (text, path, matches) in cases {
            assert_eq!(
                pattern(text).matches(Path::new(path)),
                matches,
                "{text} {path}"
            );
        }
    }

    #[test]
    fn nobody_looks_where_nothing_can_match() {
        let cases = [
            ("target/release/app", "target", true),
            ("target/release/app", "target/debug", false),
            ("target/release/app", "target/release/app", false),
            ("dist/*.js", "dist", true),
            ("dist/*.js", "node_modules", false),
            ("**/*.so", "any/where", true),
            ("*", "", true),
        ];
        for (text, directory, may) in cases {
            assert_eq!(
                pattern(text).may_match_below(Path::new(directory)),
                may,
                "{text} {directory}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_matches_is_looked_for(text in "[ab*?/]{1,8}", path in "[ab]{1,2}(/[ab]{1,2}){0,3}") {
            if let Ok(pattern) = text.parse::<OutputPattern>() {
                let path = Path::new(&path);
                if pattern.matches(path) {
                    for above in path.ancestors().skip(1) {
                        prop_assert!(pattern.may_match_below(above), "{} {}", text, above.display());
                    }
                }
            }
        }
    }
}
