use std::fs::{self, File};
use std::io;
use std::path::Path;

/// How many files and directories are synced one by one.
///
/// `fsync` costs a commit of the journal for each file: 64 small ones take 12 ms on an SSD where
/// one `syncfs` takes 3 ms. But `syncfs` also waits for what everybody else has written, and
/// beside a busy neighbour that was 200 ms. So the common release, one binary or a few files,
/// does not depend on neighbours, and a large one does not pay for each file.
const FEW: usize = 8;

/// Files and directories that were written, and are not surely on disk yet.
pub(crate) struct Unsynced {
    root: File,
    few: Vec<File>,
    many: bool,
}

impl Unsynced {
    /// To be made before the first write below `root`: `syncfs` tells what failed since then.
    pub(crate) fn below(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: File::open(root)?,
            few: Vec::new(),
            many: false,
        })
    }

    /// Takes in a file or a directory that nothing more is written to.
    pub(crate) fn push(&mut self, file: File) -> io::Result<()> {
        if cfg!(not(target_os = "linux")) {
            // There is no `syncfs`.
            return file.sync_all();
        }
        if self.few.len() == FEW {
            self.few.clear();
            self.many = true;
        }
        if !self.many {
            self.few.push(file);
        }
        Ok(())
    }

    /// Returns once all of it is on disk.
    pub(crate) fn sync(self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.many {
            rustix::fs::syncfs(&self.root)?;
            return Ok(());
        }
        self.few.iter().try_for_each(File::sync_all)?;
        self.root.sync_all()
    }
}

/// Returns once the names in a directory are on disk.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory with its parents, as far as they are missing, on disk.
pub(crate) fn create_dirs(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if path.is_dir() {
        return Ok(());
    }
    create_dirs(parent)?;
    fs::create_dir(path)?;
    sync_dir(parent)
}
