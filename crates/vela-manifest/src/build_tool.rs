use std::fmt;

/// A tool that Vela knows how to build with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildTool {
    /// Rust's.
    Cargo,
    /// Elixir's.
    Mix,
}

impl BuildTool {
    /// Every one; the first whose file is there is taken.
    pub const ALL: [Self; 2] = [Self::Cargo, Self::Mix];

    /// The tool of a source tree. `has` says whether the tree has a file of that name at its root.
    pub fn detect(has: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| has(tool.file()))
    }

    /// The file at the root of the source by which it is known.
    pub fn file(self) -> &'static str {
        match self {
            Self::Cargo => "Cargo.toml",
            Self::Mix => "mix.exs",
        }
    }

    /// The shell command that builds a release with it.
    pub fn command(self) -> &'static str {
        match self {
            // What was committed is built, or nothing: no other versions of the dependencies.
            Self::Cargo => "cargo build --release --locked",
            Self::Mix => "mix deps.get --only prod && mix release --overwrite",
        }
    }

    /// What it finds in its environment, unless `[build.env]` says otherwise.
    pub fn env(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Cargo => &[],
            Self::Mix => &[("MIX_ENV", "prod")],
        }
    }
}

impl fmt::Display for BuildTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cargo => "Cargo",
            Self::Mix => "Mix",
        })
    }
}
