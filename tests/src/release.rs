use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The manifest that most tests begin with.
pub const MANIFEST: &str = r#"[app]
name = "shop"
domain = "shop.localhost"

[deploy]
binary = "run"
health = "/health"
drain = 2
stop_timeout = 3
"#;

/// A directory with a manifest and a release to deploy.
#[derive(Debug)]
pub struct Release {
    dir: tempfile::TempDir,
}

impl Release {
    /// A release whose entrypoint runs the demo's app with these arguments.
    pub fn demo_app(manifest: &str, args: &str) -> Release {
        let vela = program();
        Release::script(
            manifest,
            &format!("exec '{}' demo-app {args} \"$@\"", vela.display()),
        )
    }

    /// A release whose entrypoint `run` is a shell script.
    pub fn script(manifest: &str, script: &str) -> Release {
        let release = Release {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(release.files()).unwrap();
        release.write("run", &format!("#!/bin/sh\n{script}\n"));
        let run = release.files().join("run");
        std::fs::set_permissions(run, std::fs::Permissions::from_mode(0o755)).unwrap();
        release.set_manifest(manifest);
        release
    }

    /// A release of the files of a directory.
    pub fn of_directory(manifest: &str, dir: &Path) -> Release {
        let release = Release {
            dir: tempfile::tempdir().unwrap(),
        };
        let copied = Command::new("cp")
            .arg("-a")
            .args([dir, &release.files()])
            .status();
        assert!(copied.unwrap().success());
        release.set_manifest(manifest);
        release
    }

    /// Replaces the manifest.
    pub fn set_manifest(&self, manifest: &str) {
        std::fs::write(self.manifest(), manifest).unwrap();
    }

    /// Adds or replaces a file of the release.
    pub fn write(&self, name: &str, contents: &str) {
        std::fs::write(self.files().join(name), contents).unwrap();
    }

    /// Commits all of it, the manifest too, as the source of a remote build.
    pub fn commit(&self) {
        crate::commit_all(self.dir.path());
    }

    /// Where the release's files are.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("release")
    }

    /// Where the manifest is.
    pub fn manifest(&self) -> PathBuf {
        self.dir.path().join("Vela.toml")
    }
}

/// The program under test, built with the tests.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let is_built = |dir: &&Path| dir.join("vela-under-test").exists();
    let dir = own
        .ancestors()
        .skip(1)
        .find(is_built)
        .expect("cargo builds vela-under-test with the tests");
    dir.join("vela-under-test")
}
