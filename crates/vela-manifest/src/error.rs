use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use miette::{Diagnostic, SourceCode};

use crate::invalid_file::InvalidFile;
use crate::problem::Problem;

/// Why there is no manifest, or no server configuration.
///
/// `Display` is one line; [`report`](Self::report) is the whole story as plain text, with carets; for
/// colours, it is a [`miette::Diagnostic`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file can't be read.
    #[error("cannot read {}", path.display())]
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file has more than 1 MiB, and no line of it was looked at.
    #[error("{file} is larger than 1 MiB")]
    #[non_exhaustive]
    TooLarge {
        /// The file.
        file: String,
    },
    /// The file was read, and something in it is wrong.
    #[error(transparent)]
    Invalid(Box<InvalidFile>),
}

impl ManifestError {
    /// What is wrong inside the file, in its order; nothing if it could not be read. Of hundreds of problems,
    /// the first.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(file) => file.problems(),
            Self::Read { .. } | Self::TooLarge { .. } => &[],
        }
    }

    /// Every problem with its place, the line it is on, a caret below, and the hint: plain text of several
    /// lines. The same as `Display` if the file could not be read.
    pub fn report(&self) -> String {
        match self {
            Self::Invalid(file) => file.report(),
            Self::Read { .. } | Self::TooLarge { .. } => self.to_string(),
        }
    }

    /// What the user can do, if that can be told in one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid(file) => file.problems().first()?.hint.clone(),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}

impl Diagnostic for ManifestError {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self {
            Self::Invalid(file) => file.source_code(),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        match self {
            Self::Invalid(file) => file.help(),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        match self {
            Self::Invalid(file) => file.labels(),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self {
            Self::Invalid(file) => file.related(),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}
