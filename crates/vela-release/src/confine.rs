use std::path::{Component, Path, PathBuf};

use crate::ArchiveError;
use crate::printable::printable;

/// How deep a release's directories may be nested.
///
/// To unpack a tree, bring it in, pack or seal it takes open directories and a frame of the stack for
/// each level: what is deeper than a process may have open files could be had and never be used.
pub(crate) const MAX_DEPTH: usize = 128;

/// The name of an archive's member without `.`, provided that it stays inside the root.
pub(crate) fn confined(name: &Path) -> Result<PathBuf, ArchiveError> {
    let unsafe_name = || ArchiveError::UnsafeName {
        name: printable(name),
    };
    if name.as_os_str().is_empty() {
        return Err(unsafe_name());
    }
    let mut parts = PathBuf::new();
    for (depth, part) in name.components().enumerate() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) if depth < MAX_DEPTH => parts.push(part),
            Component::Normal(_) => {
                return Err(ArchiveError::TooDeep {
                    name: printable(name),
                    limit: MAX_DEPTH,
                });
            }
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(unsafe_name());
            }
        }
    }
    Ok(parts)
}

/// Whether a symbolic link at `link` (a confined name, whose parents are real directories) can
/// only lead to something inside the root, which need not exist.
///
/// `..` may stand at the front alone, and no more often than the link is deep. There it walks up
/// through real directories. After a name it would mean the parent of whatever that name links
/// to, which a look at the text can't tell: with `s -> ../..` beside it, `s/..` may be anywhere.
pub(crate) fn link_is_confined(link: &Path, target: &Path) -> bool {
    let mut above = link.components().count().saturating_sub(1);
    let mut descending = false;
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => descending = true,
            Component::ParentDir if !descending && above > 0 => above -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !target.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_inside_lose_their_dots() {
        for (name, inside) in [("a", "a"), ("./a//b/./c/", "a/b/c"), (".", ""), ("./", "")] {
            assert_eq!(confined(Path::new(name)).unwrap(), Path::new(inside));
        }
    }

    #[test]
    fn names_outside_are_refused() {
        for name in [
            "",
            "/",
            "/a",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/../../b",
            "./../a",
        ] {
            let refused = confined(Path::new(name));
            assert!(
                matches!(refused, Err(ArchiveError::UnsafeName { .. })),
                "{name:?} was taken"
            );
        }
    }

    #[test]
    fn names_too_deep_are_refused() {
        assert!(confined(Path::new(&"a/".repeat(MAX_DEPTH))).is_ok());
        let refused = confined(Path::new(&"a/".repeat(MAX_DEPTH + 1)));
        assert!(matches!(refused, Err(ArchiveError::TooDeep { .. })));
    }

    #[test]
    fn links_inside_are_told_from_links_that_may_leave() {
        let cases = [
            ("l", "a", true),
            ("l", "./a/b", true),
            ("l", ".", true),
            ("a/l", "..", true),
            ("a/b/l", "../../c", true),
            ("a/l", "./../b", true),
            ("l", "", false),
            ("l", "/etc/passwd", false),
            ("l", "..", false),
            ("a/l", "../..", false),
            ("a/b/l", "../../../c", false),
            ("a/b/l", "s/..", false),
            ("l", "a/../../b", false),
        ];
        for (link, target, inside) in cases {
            let judged = link_is_confined(Path::new(link), Path::new(target));
            assert_eq!(judged, inside, "{link} -> {target}");
        }
    }
}
