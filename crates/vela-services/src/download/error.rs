use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What [`Download`](crate::Download) can't be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDownload {
    /// Not a url.
    #[error("`{0}` is not a url that starts with `https://`")]
    Url(String),
    /// Not a version.
    #[error("`{0}` is not a version of numbers and dots")]
    Version(String),
    /// Not a checksum.
    #[error("`{0}` is not a SHA-256 checksum of 64 hexadecimal digits")]
    Sha256(String),
}

/// Why a program could not be downloaded. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// There is nothing for this machine.
    #[error("no checksum is known of the file for {arch}")]
    NoChecksum {
        /// The architecture.
        arch: String,
    },

    /// The server could not be asked.
    #[error("the server cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),

    /// The server has answered with an error: 404 when there is no such file.
    #[error("the server answers {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },

    /// The connection broke, or stood still, in the middle.
    #[error("the download was cut off after {received} bytes")]
    CutOff {
        /// What had arrived.
        received: u64,
        /// Why.
        source: io::Error,
    },

    /// The file is larger than a program is.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// The most that is taken.
        limit: u64,
    },

    /// It is another file than the one that was pinned.
    #[error("the file's SHA-256 is {found}, not {wanted}")]
    Checksum {
        /// As pinned.
        wanted: String,
        /// As downloaded.
        found: String,
    },

    /// It is the right file, but no archive.
    #[error("the file is not a tar.gz archive")]
    NotAnArchive(#[source] io::Error),

    /// The archive lacks the program.
    #[error("there is no `{program}` in the archive")]
    NoProgram {
        /// What was looked for.
        program: &'static str,
    },

    /// The disk took no more.
    #[error("cannot write to {}", dir.display())]
    Write {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// Nobody waits for it any more.
    #[error("the download was cancelled")]
    Cancelled,

    /// The task that downloaded it ended.
    #[error("the download was interrupted")]
    Interrupted(#[source] Box<dyn Error + Send + Sync>),
}

impl DownloadError {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoChecksum { .. } => {
                "pin a version with its checksum for this architecture, or install the program yourself"
            }
            Self::Unreachable(_) | Self::CutOff { .. } => {
                "try again, name a mirror that this machine can reach, or install the program yourself"
            }
            Self::Status { .. } => "check the url and the version, or install the program yourself",
            Self::TooLarge { .. } | Self::NotAnArchive(_) | Self::NoProgram { .. } => {
                "check that the url is of the tar.gz of a release"
            }
            Self::Checksum { .. } => {
                "check that the url, the version and the checksum belong together; if they do, somebody has changed the file"
            }
            Self::Write { source, .. } if source.kind() == ErrorKind::StorageFull => {
                "make room on that disk"
            }
            Self::Write { .. } | Self::Cancelled | Self::Interrupted(_) => return None,
        })
    }
}

pub(super) fn write_failed(dir: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    let dir = dir.to_owned();
    move |source| DownloadError::Write { dir, source }
}
