use std::io;
use std::path::{Path, PathBuf};

use crate::beneath::is_another;

/// Why something can't be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// There is nothing to pack.
    #[error("there is no file or directory `{}`", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file has no bytes, or the directory no files.
    #[error("there is nothing in `{}`", path.display())]
    Empty {
        /// The file or directory.
        path: PathBuf,
    },
    /// A socket, a pipe or a device, which an archive can't hold.
    #[error("`{}` is {kind}, which can't be packed", path.display())]
    Unsupported {
        /// Where it is.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A file that would run as its owner or group, which no server unpacks.
    #[error("`{}` has the setuid or setgid bit", path.display())]
    SetId {
        /// The file.
        path: PathBuf,
    },
    /// A symbolic link that leads out of what is packed, or may.
    #[error("the link `{}` -> `{}` does not surely stay inside what is packed", path.display(), target.display())]
    UnsafeLink {
        /// The link.
        path: PathBuf,
        /// What it points at.
        target: PathBuf,
    },
    /// Directories nested deeper than any server unpacks.
    #[error("`{}` is more than {limit} directories deep", path.display())]
    TooDeep {
        /// The file or directory.
        path: PathBuf,
        /// How many are allowed.
        limit: usize,
    },
    /// A file that grew or shrank while it was packed.
    #[error("`{}` changed while it was packed", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file that belongs to another user than all that is packed should.
    #[error("`{}` belongs to another user", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// More files and directories than the limit.
    #[error("there are more than {limit} files and directories")]
    TooManyFiles {
        /// How many are allowed.
        limit: u64,
    },
    /// More bytes than the limit.
    #[error("there are more than {limit} bytes")]
    TooManyBytes {
        /// How many are allowed.
        limit: u64,
    },
    /// Nobody waits for it any more.
    #[error("packing was cancelled")]
    Cancelled,
    /// A tar archive of another program's that is none.
    #[error("what was to be packed is not a sound tar archive")]
    BrokenTar {
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// A file or directory that can't be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why it can't be read.
        #[source]
        source: io::Error,
    },
    /// The archive can't be written.
    #[error("cannot write the archive")]
    Write {
        /// Why it can't be written.
        #[source]
        source: io::Error,
    },
}

impl PackError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } | Self::Empty { .. } => Some("build it first".to_owned()),
            Self::Unsupported { path, .. } => {
                Some(format!("move `{}` out of what is packed", path.display()))
            }
            Self::SetId { path } => Some(format!("chmod ug-s {}", path.display())),
            Self::UnsafeLink { .. } => Some(
                "point it at a path inside, with `..` only at its front, or pack a copy".to_owned(),
            ),
            Self::Changed { .. } => Some("wait until nothing writes to it".to_owned()),
            _ => None,
        }
    }

    /// For `map_err`: an error of opening `path`, which a moment ago was what it should be.
    pub(crate) fn changed(path: &Path) -> impl FnOnce(io::Error) -> PackError + use<> {
        let read = PackError::read(path);
        let path = path.to_owned();
        move |source| match is_another(&source) {
            true => PackError::Changed { path },
            false => read(source),
        }
    }

    /// For `map_err`: an error of reading `path`.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> PackError + use<> {
        let path = path.to_owned();
        move |source| PackError::Read { path, source }
    }
}
