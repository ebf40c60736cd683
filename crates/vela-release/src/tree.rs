use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::ArchiveError;
use crate::printable::printable;

/// The mode of a directory that an archive's names lead through but that it does not describe.
const IMPLIED_MODE: u32 = 0o755;

/// What an archive has unpacked so far, to judge what it wants to unpack next.
///
/// It is a tree of single names rather than a set of whole paths, so that its size is bound by
/// the limit on files however long and deep their paths are.
pub(crate) struct Tree {
    root: Directory,
    count: u64,
    max_files: u64,
}

/// A directory of the tree.
#[derive(Default)]
pub(crate) struct Directory {
    described: Option<u32>,
    children: BTreeMap<OsString, Node>,
}

enum Node {
    Directory(Directory),
    File,
    Symlink,
}

/// What a member that is no directory is to be.
#[derive(Clone, Copy)]
pub(crate) enum Leaf {
    File,
    Symlink,
}

impl Tree {
    pub(crate) fn new(max_files: u64) -> Self {
        Self {
            root: Directory::default(),
            count: 0,
            max_files,
        }
    }

    pub(crate) fn root(&self) -> &Directory {
        &self.root
    }

    /// Adds a file or a link at a confined name, and returns the directories to make before it.
    pub(crate) fn add(&mut self, name: &Path, leaf: Leaf) -> Result<Vec<PathBuf>, ArchiveError> {
        let unsafe_name = || ArchiveError::UnsafeName {
            name: printable(name),
        };
        let file_name = name.file_name().ok_or_else(unsafe_name)?;
        let (missing, parent) = self.enter(name.parent().unwrap_or(Path::new("")))?;
        match parent.children.entry(file_name.to_owned()) {
            Entry::Vacant(free) => free.insert(match leaf {
                Leaf::File => Node::File,
                Leaf::Symlink => Node::Symlink,
            }),
            Entry::Occupied(_) => {
                return Err(ArchiveError::Duplicate {
                    name: printable(name),
                });
            }
        };
        count(&mut self.count, self.max_files)?;
        Ok(missing)
    }

    /// Adds a directory at a confined name, and returns the directories to make.
    ///
    /// It may exist because an earlier name led through it, but may be described once only.
    pub(crate) fn add_directory(
        &mut self,
        name: &Path,
        mode: u32,
    ) -> Result<Vec<PathBuf>, ArchiveError> {
        let duplicate = || ArchiveError::Duplicate {
            name: printable(name),
        };
        if matches!(self.leaf(name), Some(Node::File | Node::Symlink)) {
            return Err(duplicate());
        }
        let (missing, directory) = self.enter(name)?;
        if directory.described.replace(mode).is_some() {
            return Err(duplicate());
        }
        Ok(missing)
    }

    /// Whether a regular file was added at this name.
    pub(crate) fn has_file(&self, name: &Path) -> bool {
        matches!(self.leaf(name), Some(Node::File))
    }

    /// Whether there is nothing in it but directories.
    pub(crate) fn has_no_files(&self) -> bool {
        fn bare(directory: &Directory) -> bool {
            directory.directories().all(|(_, child)| bare(child))
                && directory.directories().count() == directory.children.len()
        }
        bare(&self.root)
    }

    fn leaf(&self, name: &Path) -> Option<&Node> {
        let mut directory = &self.root;
        for part in name.parent()? {
            match directory.children.get(part)? {
                Node::Directory(child) => directory = child,
                Node::File | Node::Symlink => return None,
            }
        }
        directory.children.get(name.file_name()?)
    }

    /// The directory at `path`, added with its parents where missing, and the names of those.
    fn enter(&mut self, path: &Path) -> Result<(Vec<PathBuf>, &mut Directory), ArchiveError> {
        let mut missing = Vec::new();
        let mut here = PathBuf::new();
        let mut directory = &mut self.root;
        for part in path {
            here.push(part);
            let child = match directory.children.entry(part.to_owned()) {
                Entry::Occupied(child) => child.into_mut(),
                Entry::Vacant(free) => {
                    // Counted before it exists: a name can lead through very many.
                    count(&mut self.count, self.max_files)?;
                    missing.push(here.clone());
                    free.insert(Node::Directory(Directory::default()))
                }
            };
            directory = match child {
                Node::Directory(child) => child,
                Node::File | Node::Symlink => {
                    return Err(ArchiveError::NotADirectory {
                        name: printable(path),
                    });
                }
            };
        }
        Ok((missing, directory))
    }
}

impl Directory {
    /// The permission bits it is to have. Its owner can always use it, and delete it.
    pub(crate) fn mode(&self) -> u32 {
        self.described.unwrap_or(IMPLIED_MODE) & 0o777 | 0o700
    }

    /// The directories in it.
    pub(crate) fn directories(&self) -> impl Iterator<Item = (&OsString, &Directory)> {
        self.children.iter().filter_map(|(name, node)| match node {
            Node::Directory(child) => Some((name, child)),
            Node::File | Node::Symlink => None,
        })
    }
}

fn count(so_far: &mut u64, limit: u64) -> Result<(), ArchiveError> {
    *so_far += 1;
    if *so_far > limit {
        Err(ArchiveError::TooManyFiles { limit })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new(1000)
    }

    fn add(tree: &mut Tree, name: &str) -> Result<Vec<PathBuf>, ArchiveError> {
        tree.add(Path::new(name), Leaf::File)
    }

    #[test]
    fn missing_parents_are_named_once() {
        let mut tree = tree();
        assert_eq!(
            add(&mut tree, "a/b/f").unwrap(),
            [Path::new("a"), Path::new("a/b")]
        );
        assert_eq!(add(&mut tree, "a/b/g").unwrap(), [] as [&Path; 0]);
        assert!(tree.has_file(Path::new("a/b/g")));
        assert!(!tree.has_file(Path::new("a/b")));
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut tree = tree();
        add(&mut tree, "a/f").unwrap();
        assert!(matches!(
            add(&mut tree, "a/f"),
            Err(ArchiveError::Duplicate { .. })
        ));
        assert!(matches!(
            add(&mut tree, "a"),
            Err(ArchiveError::Duplicate { .. })
        ));
        let file = tree.add_directory(Path::new("a/f"), 0o755);
        assert!(matches!(file, Err(ArchiveError::Duplicate { .. })));
    }

    #[test]
    fn a_directory_is_described_once_be_it_after_its_content() {
        let mut tree = tree();
        add(&mut tree, "a/f").unwrap();
        tree.add_directory(Path::new("a"), 0o750).unwrap();
        assert_eq!(tree.root().directories().next().unwrap().1.mode(), 0o750);
        let again = tree.add_directory(Path::new("a"), 0o755);
        assert!(matches!(again, Err(ArchiveError::Duplicate { .. })));
        tree.add_directory(Path::new(""), 0o711).unwrap();
        assert_eq!(tree.root().mode(), 0o711);
    }

    #[test]
    fn nothing_leads_through_a_link_or_a_file() {
        let mut tree = tree();
        tree.add(Path::new("link"), Leaf::Symlink).unwrap();
        add(&mut tree, "file").unwrap();
        for name in ["link/x", "file/x", "link/x/y"] {
            let refused = add(&mut tree, name);
            assert!(
                matches!(refused, Err(ArchiveError::NotADirectory { .. })),
                "{name}"
            );
            let refused = tree.add_directory(Path::new(name), 0o755);
            assert!(
                matches!(refused, Err(ArchiveError::NotADirectory { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn implied_directories_count_too() {
        let mut tree = Tree::new(3);
        add(&mut tree, "a/b/c").unwrap();
        assert!(matches!(
            add(&mut tree, "d"),
            Err(ArchiveError::TooManyFiles { limit: 3 })
        ));
        let deep = Tree::new(3).add_directory(Path::new("a/b/c/d"), 0o755);
        assert!(matches!(deep, Err(ArchiveError::TooManyFiles { limit: 3 })));
    }

    #[test]
    fn directories_alone_are_no_files() {
        let mut tree = tree();
        assert!(tree.has_no_files());
        tree.add_directory(Path::new("a/b"), 0o755).unwrap();
        assert!(tree.has_no_files());
        tree.add(Path::new("a/b/link"), Leaf::Symlink).unwrap();
        assert!(!tree.has_no_files());
    }
}
