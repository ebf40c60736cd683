use std::path::Path;
use std::process::{Command, Stdio};

/// Who asks, as far as this machine knows: `alice@laptop`.
pub(crate) fn client() -> Option<String> {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .ok()
        .filter(|user| !user.is_empty())?;
    let system = rustix::system::uname();
    Some(format!("{user}@{}", system.nodename().to_string_lossy()))
}

/// The git revision that `dir` is at, marked `-dirty` when tracked files differ from it; nothing without git or a
/// repository.
pub(crate) fn git_revision(dir: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let revision = git(&["rev-parse", "--verify", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(match changes.is_empty() {
        true => revision,
        false => format!("{revision}-dirty"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_marked_when_tracked_files_differ() {
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let done = Command::new("git")
                .arg("-C")
                .arg(dir.path())
                .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
                .args(args)
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        assert_eq!(git_revision(dir.path()), None);
        git(&["init", "-q"]);
        let file = dir.path().join("file");
        std::fs::write(&file, "one").unwrap();
        git(&["add", "file"]);
        git(&["commit", "-q", "--no-gpg-sign", "-m", "one"]);
        let clean = git_revision(dir.path()).unwrap();
        assert_eq!(clean.len(), 40);
        std::fs::write(dir.path().join("untracked"), "").unwrap();
        assert_eq!(git_revision(dir.path()), Some(clean.clone()));
        std::fs::write(&file, "two").unwrap();
        assert_eq!(git_revision(dir.path()), Some(format!("{clean}-dirty")));
    }
}
