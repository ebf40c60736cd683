use std::collections::BTreeMap;

use crate::entry_path::EntryPath;
use crate::env;
use crate::section::Section;
use crate::template::Template;
use crate::value::Value;

/// `[build]`: how to make the release from the source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Build {
    /// `remote`: whether to build on the server.
    pub remote: bool,
    /// `command`: the shell command that builds.
    pub command: Option<String>,
    /// `output`: the file or directory that is the release.
    pub output: Option<EntryPath>,
    /// `[build.env]`: the environment of the build.
    pub env: BTreeMap<String, Template>,
}

impl Build {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        let remote = section.read("remote", Value::boolean).unwrap_or(false);
        let command = section.read("command", Value::command);
        if remote && !section.has("command") {
            section.report_key(
                "remote",
                "`remote = true` without a `command` to build with",
                Some(r#"as in command = "mix release""#),
            );
        }
        Self {
            remote,
            command,
            output: section.read("output", Value::parse),
            env: env::read(section.section("env")),
        }
    }

    /// Whether it asks for anything at all.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
