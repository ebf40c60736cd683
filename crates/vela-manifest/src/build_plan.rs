use std::time::Duration;

use crate::build_tool::BuildTool;
use crate::output::Output;

/// What a build of one source tree does: the manifest's wishes, and for what it does not say what its files tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildPlan {
    /// The tool that the tree is built with, as far as its files tell.
    pub tool: Option<BuildTool>,
    /// The shell command, which runs at the root of the tree.
    pub command: String,
    /// What of the built tree becomes the release.
    pub output: Output,
    /// How long the command may take.
    pub timeout: Duration,
}

/// There is no `command`, and no file from which one could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no `command` in [build], and neither a Cargo.toml nor a mix.exs to tell one from"
)]
pub struct NoBuildCommand;

impl NoBuildCommand {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        r#"say how it is built, as in command = "npm ci""#.to_owned()
    }
}
