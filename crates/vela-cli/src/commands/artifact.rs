use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use vela_manifest::{EntryPath, Kind};
use vela_release::entrypoint;

use crate::context::Source;
use crate::failure::Failure;

/// The artifact to deploy: what was named, else what is made beside the manifest by `cargo build --release`, or for a
/// BEAM release by `mix release`.
pub(crate) fn find(source: &Source, named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let entry = &source.manifest.deploy.binary;
    if let Some(artifact) = named {
        check(&artifact, entry)?;
        return Ok(artifact);
    }
    let (built, may_be) = match source.manifest.deploy.kind {
        Kind::Binary => {
            let program = source.dir().join("target/release").join(entry.as_path());
            (program, !entry.as_str().contains('/'))
        }
        Kind::Beam => {
            let name = source.manifest.app.name.as_str().replace('-', "_");
            (source.dir().join("_build/prod/rel").join(name), true)
        }
    };
    if !may_be || !built.exists() {
        return Err(
            Failure::new("there is nothing to deploy").with_hint(format!(
                "name a program or a directory: `vela deploy PATH`; without one it is {}",
                built.display()
            )),
        );
    }
    check(&built, entry)?;
    Ok(built)
}

/// Refuses here what the server would refuse after an upload.
fn check(artifact: &Path, entry: &EntryPath) -> Result<(), Failure> {
    let shown = artifact.display();
    let metadata = std::fs::metadata(artifact).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(format!("the artifact {shown} does not exist"))
            .with_hint("build it first, or name another: `vela deploy PATH`"),
        _ => Failure::because(format!("cannot read the artifact {shown}"), &error),
    })?;
    if metadata.is_dir() {
        check_directory(artifact, entry)
    } else if metadata.is_file() {
        check_program(artifact, &metadata, entry)
    } else {
        Err(Failure::new(format!(
            "the artifact {shown} is neither a file nor a directory"
        )))
    }
}

fn check_directory(artifact: &Path, entry: &EntryPath) -> Result<(), Failure> {
    let shown = artifact.display();
    let unreadable = |error| Failure::because(format!("cannot read the artifact {shown}"), &error);
    if std::fs::read_dir(artifact)
        .map_err(unreadable)?
        .next()
        .is_none()
    {
        return Err(Failure::new(format!("the artifact {shown} is empty")));
    }
    entrypoint(artifact, entry.as_path())
        .map(drop)
        .map_err(|error| {
            let message = format!("the artifact {shown} has no entrypoint that can be run");
            let failure = Failure::because(message, &error);
            match error.hint() {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        })
}

fn check_program(artifact: &Path, metadata: &Metadata, entry: &EntryPath) -> Result<(), Failure> {
    let shown = artifact.display();
    if metadata.len() == 0 {
        return Err(Failure::new(format!("the artifact {shown} is empty")));
    }
    let name = artifact.file_name().unwrap_or_default();
    if Path::new(name) != entry.as_path() {
        let name = name.to_string_lossy();
        let failure = Failure::new(format!(
            "the artifact {shown} lacks the entrypoint `{}`: it is the single file `{name}`",
            entry.as_str()
        ));
        return Err(match is_archive(&name) {
            true => failure.with_hint("unpack it: an artifact is a program or a directory"),
            false => failure.with_hint(format!(
                "set `binary = \"{name}\"` in [deploy], or deploy the directory that holds `{}`",
                entry.as_str()
            )),
        });
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Failure::new(format!(
            "the entrypoint {shown} is not executable: its mode is {:o}",
            metadata.permissions().mode() & 0o7777
        ))
        .with_hint(format!("`chmod +x {shown}`")));
    }
    Ok(())
}

fn is_archive(name: &str) -> bool {
    [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::failure::Cause;

    fn message(artifact: &Path, entry: &str) -> String {
        let failure = check(artifact, &EntryPath::parse(entry).unwrap()).unwrap_err();
        match failure.cause {
            Cause::Report(report) => format!("{report} / {:?}", report.hint),
            other => panic!("{other:?}"),
        }
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_program_named_like_its_entrypoint_is_an_artifact() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("my-app");
        write(&program, "#!/bin/sh\n", 0o755);
        check(&program, &EntryPath::parse("my-app").unwrap()).unwrap();
        check(dir.path(), &EntryPath::parse("my-app").unwrap()).unwrap();
    }

    #[test]
    fn each_error_says_which_file_and_what_was_found_instead() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(message(&at("none"), "my-app").contains("none does not exist"));
        fs::create_dir(at("hollow")).unwrap();
        assert!(message(&at("hollow"), "my-app").contains("hollow is empty"));
        write(&at("my-app"), "", 0o755);
        assert!(message(&at("my-app"), "my-app").contains("my-app is empty"));
        write(&at("my-app"), "x", 0o644);
        let text = message(&at("my-app"), "my-app");
        assert!(
            text.contains("is not executable: its mode is 644"),
            "{text}"
        );
        assert!(text.contains("`chmod +x "), "{text}");
        write(&at("server"), "x", 0o755);
        let text = message(&at("server"), "my-app");
        assert!(
            text.contains("lacks the entrypoint `my-app`: it is the single file `server`"),
            "{text}"
        );
        assert!(text.contains("set `binary = "), "{text}");
        write(&at("my-app.tar.gz"), "x", 0o755);
        assert!(message(&at("my-app.tar.gz"), "my-app").contains("unpack it"));
        let text = message(dir.path(), "bin/my-app");
        assert!(text.contains("bin/my-app"), "{text}");
    }

    #[test]
    fn what_mix_makes_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[app]\nname = \"my-app\"\n[deploy]\ntype = \"beam\"\n";
        let source = Source {
            path: dir.path().join("Vela.toml"),
            text: text.to_owned(),
            manifest: vela_manifest::Manifest::parse("Vela.toml", text).unwrap(),
        };
        find(&source, None).unwrap_err();
        let built = dir.path().join("_build/prod/rel/my_app");
        fs::create_dir_all(built.join("bin")).unwrap();
        find(&source, None).unwrap_err();
        write(&built.join("bin/my_app"), "#!/bin/sh\n", 0o755);
        assert_eq!(find(&source, None).unwrap(), built);
    }

    #[test]
    fn a_device_is_no_artifact() {
        assert!(message(Path::new("/dev/null"), "null").contains("neither a file nor a directory"));
    }
}
