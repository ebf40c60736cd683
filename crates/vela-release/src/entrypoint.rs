use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, MetadataExt};

use crate::confine::confined;
use crate::printable::printable;

/// How many names an error lists.
const LISTED: usize = 12;
/// How many directories below the root, and how many entries, are searched for a suggestion.
const SEARCH: (usize, usize) = (3, 2000);

/// The path of the program `relative` inside a release, once it is known that it can be executed:
/// it exists, no link on the way leaves the release, it is a file, and its owner may execute it.
///
/// Blocks on a few file operations.
///
/// # Errors
///
/// What is wrong with it, and what the release has instead.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let release = dir.path();
/// use vela_release::entrypoint;
///
/// std::fs::write(release.join("my_app"), "")?;
/// let error = entrypoint(release, "my-app".as_ref()).unwrap_err();
/// assert_eq!(error.to_string(), "the release has no `my-app`; found: my_app");
/// assert_eq!(error.hint().unwrap(), "did you mean `my_app`?");
/// # Ok(())
/// # }
/// ```
pub fn entrypoint(release: &Path, relative: &Path) -> Result<PathBuf, EntrypointError> {
    let shown = printable(relative);
    let inside = match confined(relative) {
        Ok(inside) if !inside.as_os_str().is_empty() => inside,
        _ => return Err(EntrypointError::Outside { entrypoint: shown }),
    };
    let failed = |source| EntrypointError::Io {
        path: release.join(&inside),
        source,
    };
    let root = Dir::open_ambient_dir(release, cap_std::ambient_authority()).map_err(failed)?;
    let metadata = match root.metadata(&inside) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(&root, &inside),
                // The sandbox's own verdict comes without a number of the system.
                io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
                    EntrypointError::Outside { entrypoint: shown }
                }
                _ => failed(error),
            });
        }
    };
    if !metadata.is_file() {
        let suggestion = suggestion(&root, &inside);
        return Err(EntrypointError::NotAFile {
            entrypoint: shown,
            suggestion,
        });
    }
    if metadata.mode() & 0o100 == 0 {
        return Err(EntrypointError::NotExecutable { entrypoint: shown });
    }
    Ok(release.join(inside))
}

/// Why a release has no such entrypoint. Names have their control characters escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntrypointError {
    /// An absolute path, one with `..`, or one that a link leads out of the release.
    #[error("the entrypoint `{entrypoint}` is not inside the release")]
    Outside {
        /// The entrypoint that was asked for.
        entrypoint: String,
    },
    /// There is no such file.
    #[error("the release has no `{entrypoint}`; found{}: {}", in_directory(directory), found.join(", "))]
    Missing {
        /// The entrypoint that was asked for.
        entrypoint: String,
        /// The directory, of those on its path, that does exist; empty for the release itself.
        directory: String,
        /// What that holds: names, those of directories with a `/`, cut after some.
        found: Vec<String>,
        /// The file that may have been meant.
        suggestion: Option<String>,
    },
    /// It is a directory, or something else that can't be executed.
    #[error("the entrypoint `{entrypoint}` is not a file")]
    NotAFile {
        /// The entrypoint that was asked for.
        entrypoint: String,
        /// The file that may have been meant.
        suggestion: Option<String>,
    },
    /// It lacks the permission to be executed.
    #[error("the entrypoint `{entrypoint}` is not executable")]
    NotExecutable {
        /// The entrypoint that was asked for.
        entrypoint: String,
    },
    /// The operating system refused to look.
    #[error("cannot look at `{}`", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl EntrypointError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing {
                suggestion: Some(suggestion),
                ..
            }
            | Self::NotAFile {
                suggestion: Some(suggestion),
                ..
            } => Some(format!("did you mean `{suggestion}`?")),
            Self::NotExecutable { entrypoint } => {
                Some(format!("chmod +x {entrypoint}, then deploy again"))
            }
            _ => None,
        }
    }
}

fn in_directory(directory: &str) -> String {
    if directory.is_empty() {
        String::new()
    } else {
        format!(" in {directory}/")
    }
}

fn missing(root: &Dir, wanted: &Path) -> EntrypointError {
    let (directory, mut names) = wanted
        .ancestors()
        .skip(1)
        .find_map(|directory| Some((directory, names(root, directory).ok()?)))
        .unwrap_or((Path::new(""), Vec::new()));
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let mut found: Vec<String> = names
        .into_iter()
        .map(|(name, is_dir)| format!("{}{}", printable(name), if is_dir { "/" } else { "" }))
        .collect();
    match (found.is_empty(), more) {
        (true, _) => found.push("nothing".to_owned()),
        (false, 0) => {}
        (false, more) => found.push(format!("and {more} more")),
    }
    EntrypointError::Missing {
        entrypoint: printable(wanted),
        directory: printable(directory),
        found,
        suggestion: suggestion(root, wanted),
    }
}

/// The file whose name is most like the wanted one's, or the only one there is.
fn suggestion(root: &Dir, wanted: &Path) -> Option<String> {
    let mut files = Vec::new();
    let mut budget = SEARCH.1;
    search(root, Path::new(""), SEARCH.0, &mut budget, &mut files);
    let plain = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.to_lowercase().replace('_', "-")
    };
    let wanted = plain(wanted);
    let alike = files
        .iter()
        .map(|file| (strsim::jaro_winkler(&plain(file), &wanted), file))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, file)| file);
    let only = || {
        if let [only] = &files[..] {
            Some(only)
        } else {
            None
        }
    };
    alike.or_else(only).map(printable)
}

/// A search for a hint: what can't be read is passed over.
fn search(root: &Dir, at: &Path, depth: usize, budget: &mut usize, files: &mut Vec<PathBuf>) {
    let Ok(names) = names(root, at) else { return };
    for (name, is_dir) in names {
        let Some(left) = budget.checked_sub(1) else {
            return;
        };
        *budget = left;
        let path = at.join(name);
        if is_dir && depth > 0 {
            search(root, &path, depth - 1, budget, files);
        } else if root.metadata(&path).is_ok_and(|found| found.is_file()) {
            files.push(path);
        }
    }
}

/// The sorted names in a directory, and whether each is a directory.
fn names(root: &Dir, directory: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let mut names = Vec::new();
    for entry in root.read_dir(directory)? {
        let entry = entry?;
        names.push((
            PathBuf::from(entry.file_name()),
            entry.file_type()?.is_dir(),
        ));
    }
    names.sort();
    Ok(names)
}
