use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use flate2::Compression;
use rustix::fs::OFlags;

use crate::pack::{Packer, Pick};
use crate::{Limits, Owner, PackError, Packed, Progress, beneath};

/// What of a tree is packed.
#[derive(Clone, Copy)]
pub enum Selection<'a> {
    /// The file or the directory at this path, relative to the tree's root, which an empty path
    /// stands for. As with [`pack`](crate::pack), a file becomes an archive of that one file, and
    /// what a directory holds lies at the archive's root. The path may lead through links, but
    /// not out of the tree.
    At(&'a Path),
    /// Whatever this takes, at its own path. It is asked for each path, relative to the tree's
    /// root, until it takes or skips it.
    Picked(&'a dyn Fn(&Path) -> Pick),
}

/// Packs a part of the tree at `root`, whose files somebody else may change meanwhile.
///
/// What is packed comes from inside the tree or not at all: no link is followed out of it, and
/// with an `owner` each file must belong to that user, so that not even a hard link to somebody
/// else's file is read. The archive is stored rather than compressed: it is for this machine.
/// `cancelled` may be set by another thread.
///
/// # Errors
///
/// As for [`pack`](crate::pack); also for what changed while it was packed, a file of another
/// user, and more than the `limits`.
pub(crate) fn pack_tree(
    root: &Path,
    selection: Selection<'_>,
    owner: Option<Owner>,
    limits: Limits,
    out: impl Write,
    cancelled: &AtomicBool,
) -> Result<Packed, PackError> {
    let guard = Guard {
        owner,
        limits: Some(limits),
        cancelled: Some(cancelled),
        directories: 0,
    };
    let mut progress = |_: Progress| ();
    let mut packer = Packer::new(out, Compression::none(), guard, &mut progress);
    let tree = beneath::open_root(root).map_err(PackError::read(root))?;
    match selection {
        Selection::Picked(pick) => {
            let top = Path::new("");
            packer.directory(&tree, top, top, 1, Some(pick))?;
            packer.finish(Path::new("."))
        }
        Selection::At(path) => match open_at(&Dir::from_std_file(tree), path)? {
            Opened::Directory(directory) => {
                packer.directory(&directory, path, Path::new(""), 1, None)?;
                packer.finish(path)
            }
            Opened::File(file) => {
                let name = path.file_name().unwrap_or_default();
                packer.file(&file, path, Path::new(name))?;
                packer.finish(path)
            }
        },
    }
}

enum Opened {
    Directory(File),
    File(File),
}

/// Opens a path with the kernel's promise that it leads to nothing outside.
fn open_at(tree: &Dir, path: &Path) -> Result<Opened, PackError> {
    let read = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => PackError::NotFound {
            path: path.to_owned(),
        },
        _ => PackError::read(path)(error),
    };
    let from = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    if tree.metadata(from).map_err(read)?.is_dir() {
        let directory = tree.open_dir(from).map_err(read)?;
        // Opened again, for what is opened as a mere place can't be listed.
        let readable = beneath::open(&directory, ".", OFlags::DIRECTORY).map_err(read)?;
        return Ok(Opened::Directory(readable.into()));
    }
    let mut options = OpenOptions::new();
    // A pipe put in the file's place is not waited for.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    options.read(true).custom_flags(nonblocking);
    let file = tree.open_with(from, &options).map_err(read)?;
    Ok(Opened::File(file.into_std()))
}

/// What a packer does not go beyond.
#[derive(Debug, Default)]
pub(crate) struct Guard<'a> {
    owner: Option<Owner>,
    limits: Option<Limits>,
    cancelled: Option<&'a AtomicBool>,
    /// How many directories were packed, which progress does not count.
    pub(crate) directories: u64,
}

impl Guard<'_> {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_some_and(|it| it.load(Ordering::Relaxed))
    }

    /// Whether packing may go on.
    pub(crate) fn check(&self, done: Progress) -> Result<(), PackError> {
        if self.is_cancelled() {
            return Err(PackError::Cancelled);
        }
        match self.limits {
            Some(Limits {
                max_files: limit, ..
            }) if done.files + self.directories >= limit => Err(PackError::TooManyFiles { limit }),
            _ => Ok(()),
        }
    }

    /// Whether this file may be packed too.
    pub(crate) fn check_file(
        &self,
        file: &Metadata,
        path: &Path,
        done: Progress,
    ) -> Result<(), PackError> {
        if self.owner.is_some_and(|owner| owner.uid != file.uid()) {
            return Err(PackError::Foreign {
                path: path.to_owned(),
            });
        }
        match self.limits {
            Some(Limits {
                max_bytes: limit, ..
            }) if done.bytes.saturating_add(file.len()) > limit => {
                Err(PackError::TooManyBytes { limit })
            }
            _ => Ok(()),
        }
    }
}
