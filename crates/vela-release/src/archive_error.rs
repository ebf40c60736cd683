use std::io;

/// What is wrong with an archive. Names in the messages have their control characters escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// An absolute name, or one with `..` in it.
    #[error("the archive has the name `{name}`, which does not stay inside the release")]
    UnsafeName {
        /// The name as the archive has it.
        name: String,
    },
    /// A symbolic link that leads out of the release, or may.
    #[error("the link `{name}` -> `{target}` does not surely stay inside the release")]
    UnsafeLink {
        /// The link.
        name: String,
        /// What it points at.
        target: String,
    },
    /// A hard link to something that is not an earlier file of the archive.
    #[error("the hard link `{name}` -> `{target}` is not to an earlier file of the archive")]
    UnsafeHardLink {
        /// The link.
        name: String,
        /// What it is linked to.
        target: String,
    },
    /// A name that leads through something that is not a directory, such as a symbolic link.
    #[error("the name `{name}` leads through a link or a file")]
    NotADirectory {
        /// The name that leads there.
        name: String,
    },
    /// A name that the archive has twice.
    #[error("the archive has the name `{name}` twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A file that would run as its owner or group.
    #[error("`{name}` has the setuid or setgid bit")]
    SetId {
        /// The file.
        name: String,
    },
    /// A device, a pipe, or another thing that no release is made of.
    #[error("`{name}` is {kind}")]
    Unsupported {
        /// The thing.
        name: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A name of too many parts.
    #[error("the name `{name}` is more than {limit} directories deep")]
    TooDeep {
        /// The name.
        name: String,
        /// How many are allowed.
        limit: usize,
    },
    /// More files and directories than the limit.
    #[error("the archive has more than {limit} files and directories")]
    TooManyFiles {
        /// How many are allowed.
        limit: u64,
    },
    /// More bytes, once unpacked, than the limit.
    #[error("the archive has more than {limit} bytes when unpacked")]
    TooManyBytes {
        /// How many are allowed.
        limit: u64,
    },
    /// A pax or GNU header that extends the next one is malformed, repeated, or too long.
    #[error("an extended header of the archive is malformed")]
    ExtendedHeader,
    /// The archive ends too early.
    #[error("the archive is cut off")]
    Truncated,
    /// Something follows the archive's end.
    #[error("the archive is followed by something else")]
    TrailingData,
    /// The archive holds no file.
    #[error("the archive is empty")]
    Empty,
    /// It is no archive, or a damaged one.
    #[error("it is not a sound tar.gz archive")]
    Corrupt {
        /// What the decoder found.
        #[source]
        source: io::Error,
    },
}

impl ArchiveError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnsafeLink { .. } => Some(
                "point it at a path inside the release, with `..` only at its front".to_owned(),
            ),
            Self::SetId { name } => Some(format!("chmod ug-s {name}")),
            Self::Truncated | Self::Corrupt { .. } => Some("pack it again".to_owned()),
            _ => None,
        }
    }
}
