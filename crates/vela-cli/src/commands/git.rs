//! Git, as the user has it: asked by its command, which knows every repository that there is.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::exit::Exit;
use crate::failure::{Cause, Failure};

/// How many lines of what git said are shown.
const SAID: usize = 5;

/// Git in one directory.
pub(super) struct Git<'a> {
    pub(super) dir: &'a Path,
}

impl Git<'_> {
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("--no-optional-locks")
            .arg("-C")
            .arg(self.dir)
            .args(args)
            // What it says is read here.
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// What git prints; nothing if it fails, with what it said.
    fn output(&self, args: &[&str]) -> Result<Result<Vec<u8>, String>, Failure> {
        let output = self
            .command(args)
            .output()
            .map_err(|error| not_run(&error))?;
        Ok(match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        })
    }

    pub(super) fn try_run(&self, args: &[&str]) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.output(args)?.ok())
    }

    /// Where the directory is in its repository: nothing, or a path that ends with a `/`.
    pub(super) fn prefix(&self) -> Result<String, Failure> {
        let shown = self.dir.display();
        match self.output(&["rev-parse", "--show-prefix"])? {
            Ok(prefix) => Ok(String::from_utf8_lossy(&prefix)
                .trim_end_matches('\n')
                .to_owned()),
            Err(said) if said.contains("not a git repository") => {
                let message = format!(
                    "{shown} is in no git repository, and a remote build uploads what is committed"
                );
                Err(Failure::new(message)
                    .with_hint("`git init`, and commit the source; or deploy what is built here: `vela deploy PATH`"))
            }
            Err(said) => Err(refused(
                &format!("git can't read the repository of {shown}"),
                &said,
            )),
        }
    }

    pub(super) fn commit(&self, reference: Option<&str>) -> Result<String, Failure> {
        let wanted = reference.unwrap_or("HEAD");
        let missing = || {
            let message = format!("there is no commit `{wanted}`");
            Failure::new(message)
                .with_hint("`git log --all --oneline` lists the commits that are here")
        };
        if wanted.starts_with('-') {
            return Err(missing().with_exit(Exit::Usage));
        }
        let commit = format!("{wanted}^{{commit}}");
        match self.try_run(&["rev-parse", "--verify", "--quiet", &commit])? {
            Some(commit) => Ok(String::from_utf8_lossy(&commit).trim().to_owned()),
            None if reference.is_none() => Err(Failure::new("nothing is committed yet")
                .with_hint("`git add` and `git commit` what the server is to build")),
            None => Err(missing()),
        }
    }

    /// The commit that is checked out.
    pub(super) fn head(&self) -> Option<String> {
        self.commit(None).ok()
    }

    /// The files that differ from the commit that is checked out, new ones too, but for the manifest.
    pub(super) fn changes(&self, prefix: &str, manifest: &OsStr) -> Result<Vec<String>, Failure> {
        let args = [
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--untracked-files=normal",
            "--ignore-submodules=all",
            "--",
            ".",
        ];
        let changes = self.output(&args)?;
        let changes =
            changes.map_err(|said| refused("git can't tell what is uncommitted", &said))?;
        let names = split(&changes).into_iter();
        // Two letters and a space; then the name, from the repository's root.
        let names = names.filter_map(|line| Some(line.get(3..)?.strip_prefix(prefix)?.to_owned()));
        Ok(names.filter(|name| OsStr::new(name) != manifest).collect())
    }
}

pub(super) fn split(bytes: &[u8]) -> Vec<String> {
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

pub(super) fn not_run(error: &std::io::Error) -> Failure {
    let failure = match error.kind() {
        ErrorKind::NotFound => {
            Failure::new("git is not installed, and a remote build uploads what is committed")
        }
        _ => Failure::because("cannot run git", error),
    };
    failure.with_hint("install git, or deploy what is built here: `vela deploy PATH`")
}

/// What git said, as the cause of a failure.
pub(super) fn refused(message: &str, said: &str) -> Failure {
    let mut failure = Failure::new(message);
    if let Cause::Report(report) = &mut failure.cause {
        let lines = said.lines().filter(|line| !line.trim().is_empty());
        report.causes = lines.take(SAID).map(str::to_owned).collect();
    }
    failure
}
