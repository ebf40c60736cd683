//! The committed source of a directory, as git has it: what a remote build uploads.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;

use vela_release::{PackError, Packed, Progress, pack_tar};

use super::git::{Git, not_run, refused, split};
use crate::context::Source;
use crate::failure::Failure;
use crate::render::plural;

/// How many names a warning lists.
const LISTED: usize = 5;

/// What a pointer file of git LFS begins with.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What is committed of the directory that a manifest is in.
#[derive(Debug)]
pub(crate) struct GitSource {
    dir: PathBuf,
    /// The commit's whole id.
    pub(crate) commit: String,
    /// The files at its root.
    root_files: BTreeSet<String>,
    /// What is there and will not be uploaded, and the like.
    pub(crate) warnings: Vec<String>,
}

impl GitSource {
    /// Finds the commit that `reference` names, or that is checked out, and says what of the directory it leaves out.
    /// Blocks on git.
    pub(crate) fn find(source: &Source, reference: Option<&str>) -> Result<GitSource, Failure> {
        let dir = source.dir();
        let git = Git { dir };
        let prefix = git.prefix()?;
        let commit = git.commit(reference)?;
        let short = commit.get(..12).unwrap_or(&commit);
        let tree = format!("{commit}:{}", prefix.trim_end_matches('/'));
        let Some(listing) = git.try_run(&["ls-tree", "-r", "-z", "--full-tree", &tree])? else {
            let message = format!(
                "commit {short} has no directory `{}`",
                prefix.trim_end_matches('/')
            );
            return Err(
                Failure::new(message).with_hint("commit it, or name another commit: `--ref`")
            );
        };
        let (mut root_files, mut submodules) = (BTreeSet::new(), Vec::new());
        for line in split(&listing) {
            // The mode, the kind and the id, a tab, and the name.
            let (about, name) = line.split_once('\t').unwrap_or_default();
            match about.starts_with("160000 ") {
                true => submodules.push(name.to_owned()),
                false if !name.contains('/') => drop(root_files.insert(name.to_owned())),
                false => {}
            }
        }
        let manifest = source.path.file_name().unwrap_or_default();
        let mut warnings = Vec::new();
        if git.head().as_ref() == Some(&commit) {
            let changes = git.changes(&prefix, manifest)?;
            if !changes.is_empty() {
                let what = plural(changes.len() as u64, "file");
                let names = some_of(&changes);
                warnings.push(format!(
                    "uncommitted changes to {what} are not deployed: {names}"
                ));
            }
        }
        warnings.extend(about_manifest(&git, &tree, source, short)?);
        if !submodules.is_empty() {
            let what = plural(submodules.len() as u64, "submodule");
            let names = some_of(&submodules);
            warnings.push(format!(
                "{what} not uploaded, for git archives none: {names}"
            ));
        }
        Ok(GitSource {
            dir: dir.to_owned(),
            commit,
            root_files,
            warnings,
        })
    }

    /// Whether a file of this name is at the root of what is uploaded.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.root_files.contains(name)
    }

    /// Packs it, and names the files that git LFS has elsewhere.
    pub(crate) fn pack(
        &self,
        out: impl Write,
        mut progress: impl FnMut(Progress),
    ) -> Result<(Packed, Vec<String>), Failure> {
        let git = Git { dir: &self.dir };
        // The same for everybody, whatever they have configured. In a directory git archives that directory alone.
        let mut archive = git.command(&["-c", "tar.umask=0022", "-c", "core.autocrlf=false"]);
        archive.args(["-c", "core.eol=lf", "archive", "--format=tar", &self.commit]);
        let archive = archive
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut archive = archive.map_err(|error| not_run(&error))?;
        let mut stderr = archive.stderr.take();
        // Beside the archive: git must not wait for anybody to read what it complains of.
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(stderr) = &mut stderr {
                // What can't be read as text is no complaint that helps anybody.
                stderr.read_to_string(&mut text).unwrap_or_default();
            }
            text
        });
        let mut pointers = Vec::new();
        let stdout = archive.stdout.take().expect("it is piped");
        let packed = pack_tar(stdout, out, &mut |file| {
            if file.head.starts_with(LFS_POINTER) {
                pointers.push(file.path.display().to_string());
            }
            progress(file.done);
        });
        let status = archive.wait().map_err(|error| not_run(&error))?;
        let complaints = complaints.join().unwrap_or_default();
        // What git says of it is more than that its archive was cut; but if nobody read on, that is why git failed.
        if !status.success() && !matches!(packed, Err(PackError::Write { .. })) {
            return Err(refused("git could not archive the source", &complaints));
        }
        let packed = packed.map_err(|error| Failure::because("cannot pack the source", &error))?;
        let warnings = match pointers.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "{} of git LFS uploaded as pointers, without their contents: {}",
                plural(pointers.len() as u64, "file"),
                some_of(&pointers)
            )],
        };
        Ok((packed, warnings))
    }
}

/// What there is to say of the manifest in the commit: it is the one on disk that counts.
fn about_manifest(
    git: &Git<'_>,
    tree: &str,
    source: &Source,
    short: &str,
) -> Result<Option<String>, Failure> {
    let name = source
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let slash = match tree.ends_with(':') {
        true => "",
        false => "/",
    };
    let committed = git.try_run(&["cat-file", "blob", &format!("{tree}{slash}{name}")])?;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    Ok(match committed {
        None => Some(format!(
            "{name} is not in commit {short}: the one on disk counts"
        )),
        Some(committed) if lines(&String::from_utf8_lossy(&committed)) != lines(&source.text) => {
            Some(format!(
                "{name} differs from that of commit {short}: the one on disk counts"
            ))
        }
        Some(_) => None,
    })
}

fn some_of(names: &[String]) -> String {
    let listed = names.iter().take(LISTED).map(String::as_str);
    let mut listed = listed.collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        listed.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    listed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use vela_manifest::Manifest;

    use super::*;
    use crate::failure::Cause;

    const MANIFEST: &str = "[app]\nname = 'my-app'\n[build]\nremote = true\n";

    struct Repository(tempfile::TempDir);

    impl Repository {
        fn new() -> Repository {
            let repository = Repository(tempfile::tempdir().unwrap());
            repository.git(&["init", "-q", "-b", "main"]);
            repository
        }

        fn git(&self, args: &[&str]) {
            let done = Command::new("git")
                .arg("-C")
                .arg(self.0.path())
                .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
                .args(["-c", "protocol.file.allow=always"])
                .args(args)
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn commit(&self) {
            self.git(&["add", "-A"]);
            self.git(&["commit", "-q", "--no-gpg-sign", "-m", "more"]);
        }

        fn find(&self, manifest: &str, reference: Option<&str>) -> Result<GitSource, Failure> {
            let path = self.0.path().join(manifest);
            let text = fs::read_to_string(&path).unwrap();
            let manifest = Manifest::parse("Vela.toml", &text).unwrap();
            let source = Source {
                path,
                text,
                manifest,
            };
            GitSource::find(&source, reference)
        }
    }

    fn message(failure: Failure) -> String {
        match failure.cause {
            Cause::Report(report) => report.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn names(source: &GitSource) -> Vec<String> {
        let mut packed = Vec::new();
        let (_, warnings) = source.pack(&mut packed, |_| ()).unwrap();
        assert_eq!(warnings, [""; 0]);
        let list = Command::new("tar")
            .args(["tzf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut list = list.unwrap();
        list.stdin.take().unwrap().write_all(&packed).unwrap();
        let listed = String::from_utf8(list.wait_with_output().unwrap().stdout).unwrap();
        listed.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_committed_is_uploaded_and_the_rest_named() {
        let repository = Repository::new();
        repository.write("Vela.toml", MANIFEST);
        let none = repository.find("Vela.toml", None).unwrap_err();
        assert_eq!(message(none), "nothing is committed yet");
        repository.write("Cargo.toml", "");
        repository.write("src/main.rs", "fn main() {}");
        repository.write(".gitignore", "target\n");
        repository.commit();
        let clean = repository.find("Vela.toml", None).unwrap();
        assert_eq!(clean.warnings, [""; 0]);
        assert_eq!(clean.commit.len(), 40);
        assert!(clean.has("Cargo.toml") && !clean.has("src") && !clean.has("main.rs"));
        let files = [
            ".gitignore",
            "Cargo.toml",
            "Vela.toml",
            "src/",
            "src/main.rs",
        ];
        assert_eq!(names(&clean), files);

        for name in ["a", "b", "c", "d", "e", "f", "target/ignored"] {
            repository.write(name, "new");
        }
        repository.write("src/main.rs", "fn main() { changed() }");
        repository.write("Vela.toml", &format!("{MANIFEST}timeout = 5\n"));
        let dirty = repository.find("Vela.toml", None).unwrap();
        let short = &dirty.commit[..12];
        assert_eq!(
            dirty.warnings,
            [
                "uncommitted changes to 7 files are not deployed: src/main.rs, a, b, c, d and 2 more".to_owned(),
                format!("Vela.toml differs from that of commit {short}: the one on disk counts"),
            ]
        );
        assert_eq!(names(&dirty), files);
    }

    #[test]
    fn nobodys_configuration_changes_what_is_uploaded() {
        let repository = Repository::new();
        repository.write("Vela.toml", MANIFEST);
        repository.write("run", "#!/bin/sh\necho\n");
        repository.commit();
        let pack = || {
            let source = repository.find("Vela.toml", None).unwrap();
            source.pack(std::io::sink(), |_| ()).unwrap().0.sha256
        };
        let packed = pack();
        for (name, value) in [
            ("core.autocrlf", "true"),
            ("core.eol", "crlf"),
            ("tar.umask", "0077"),
        ] {
            repository.git(&["config", name, value]);
            assert_eq!(pack(), packed, "{name}");
        }
    }

    #[test]
    fn another_commit_is_named_by_its_ref() {
        let repository = Repository::new();
        repository.write("Vela.toml", MANIFEST);
        repository.commit();
        repository.git(&["tag", "-m", "one", "v1"]);
        repository.write("new", "");
        repository.commit();
        repository.write("uncommitted", "");
        let old = repository.find("Vela.toml", Some("v1")).unwrap();
        assert_eq!(names(&old), ["Vela.toml"]);
        assert_eq!(
            old.warnings, [""; 0],
            "what is checked out has no part in it"
        );
        let new = repository.find("Vela.toml", Some("main")).unwrap();
        assert_ne!(old.commit, new.commit);
        assert_eq!(new.warnings.len(), 1);
        for reference in ["nope", "HEAD~9", "--all", "v1:Vela.toml", ""] {
            let failure = repository.find("Vela.toml", Some(reference)).unwrap_err();
            assert_eq!(
                message(failure),
                format!("there is no commit `{reference}`")
            );
        }
    }

    #[test]
    fn a_manifest_in_a_directory_has_that_directory_built() {
        let repository = Repository::new();
        repository.write("Cargo.toml", "");
        repository.write("apps/shop/mix.exs", "");
        repository.write("apps/shop/lib/shop.ex", "");
        repository.commit();
        repository.write("apps/shop/Vela.toml", MANIFEST);
        repository.write("apps/shop/new", "");
        repository.write("apps/other", "");
        let shop = repository.find("apps/shop/Vela.toml", None).unwrap();
        assert!(shop.has("mix.exs") && !shop.has("Cargo.toml"));
        assert_eq!(names(&shop), ["lib/", "lib/shop.ex", "mix.exs"]);
        assert_eq!(
            shop.warnings,
            [
                "uncommitted changes to 1 file are not deployed: new".to_owned(),
                format!(
                    "Vela.toml is not in commit {}: the one on disk counts",
                    &shop.commit[..12]
                ),
            ]
        );
        repository.write("untracked/Vela.toml", MANIFEST);
        let failure = repository.find("untracked/Vela.toml", None).unwrap_err();
        assert!(message(failure).ends_with("has no directory `untracked`"));
    }

    #[test]
    fn what_git_does_not_hold_is_said() {
        let (repository, module) = (Repository::new(), Repository::new());
        module.write("file", "");
        module.commit();
        repository.git(&[
            "submodule",
            "--quiet",
            "add",
            module.0.path().to_str().unwrap(),
            "vendor/module",
        ]);
        repository.write("Vela.toml", MANIFEST);
        repository.write(
            "large.bin",
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        );
        repository.commit();
        let source = repository.find("Vela.toml", None).unwrap();
        assert_eq!(
            source.warnings,
            ["1 submodule not uploaded, for git archives none: vendor/module"]
        );
        let (_, warnings) = source.pack(std::io::sink(), |_| ()).unwrap();
        assert_eq!(
            warnings,
            ["1 file of git LFS uploaded as pointers, without their contents: large.bin"]
        );
    }

    #[test]
    fn no_repository_and_a_broken_one_are_told_apart() {
        let repository = Repository::new();
        repository.write("Vela.toml", MANIFEST);
        repository.commit();
        let objects = repository.0.path().join(".git/objects");
        let source = repository.find("Vela.toml", None).unwrap();
        fs::remove_dir_all(objects).unwrap();
        let failure = source.pack(std::io::sink(), |_| ()).unwrap_err();
        assert!(message(failure).starts_with("git could not archive the source: fatal: "));
        fs::remove_dir_all(repository.0.path().join(".git")).unwrap();
        let failure = repository.find("Vela.toml", None).unwrap_err();
        let said = message(failure);
        assert!(said.contains("is in no git repository"), "{said}");
    }
}
