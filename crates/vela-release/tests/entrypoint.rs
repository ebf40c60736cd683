//! Finding the program in a release, and saying what is there instead.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;
use vela_release::{EntrypointError, entrypoint};

/// A release of these files; those that end with `*` are executable.
fn release(files: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in files {
        let path = dir.path().join(file.trim_end_matches('*'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "program").unwrap();
        let mode = if file.ends_with('*') { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    dir
}

fn refused(dir: &TempDir, relative: &str) -> EntrypointError {
    entrypoint(dir.path(), Path::new(relative)).unwrap_err()
}

fn told(dir: &TempDir, relative: &str) -> (String, Option<String>) {
    let error = refused(dir, relative);
    (error.to_string(), error.hint())
}

#[test]
fn a_program_is_found_also_through_links_that_stay_inside() {
    let dir = release(&["bin/app*"]);
    symlink("bin", dir.path().join("sbin")).unwrap();
    symlink("../bin/app", dir.path().join("bin/link")).unwrap();
    for relative in ["bin/app", "./bin/app", "sbin/link"] {
        let found = entrypoint(dir.path(), Path::new(relative)).unwrap();
        assert_eq!(fs::read_to_string(&found).unwrap(), "program");
        assert_eq!(found, dir.path().join(relative.trim_start_matches("./")));
    }
}

#[test]
fn nothing_outside_is_an_entrypoint() {
    let dir = release(&["app*"]);
    symlink("/bin/sh", dir.path().join("absolute")).unwrap();
    symlink("/bin", dir.path().join("directory")).unwrap();
    symlink("../../../../../../bin/sh", dir.path().join("relative")).unwrap();
    for path in [
        "/bin/sh",
        "../app",
        "x/../app",
        "",
        ".",
        "absolute",
        "directory/sh",
        "relative",
    ] {
        let error = refused(&dir, path);
        assert!(
            matches!(error, EntrypointError::Outside { .. }),
            "{path:?}: {error:?}"
        );
    }
}

#[test]
fn a_missing_program_is_told_with_what_was_found() {
    let dir = release(&["my_app*", "README", "lib/x.so"]);
    let (message, hint) = told(&dir, "my-app");
    assert_eq!(
        message,
        "the release has no `my-app`; found: README, lib/, my_app"
    );
    assert_eq!(hint.unwrap(), "did you mean `my_app`?");

    let (message, hint) = told(&dir, "lib/deeper/my-app");
    assert_eq!(
        message,
        "the release has no `lib/deeper/my-app`; found in lib/: x.so"
    );
    assert_eq!(hint.unwrap(), "did you mean `my_app`?");

    let (message, _) = told(&dir, "README/app");
    assert!(
        message.ends_with("found: README, lib/, my_app"),
        "{message}"
    );
}

#[test]
fn the_only_file_is_meant_whatever_its_name() {
    let dir = release(&["target/release/server*"]);
    let (message, hint) = told(&dir, "zzz");
    assert_eq!(message, "the release has no `zzz`; found: target/");
    assert_eq!(hint.unwrap(), "did you mean `target/release/server`?");
}

#[test]
fn many_files_are_not_all_listed_and_nothing_alike_is_suggested() {
    let names: Vec<String> = (10..50).map(|n| n.to_string()).collect();
    let dir = release(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (message, hint) = told(&dir, "app");
    assert!(message.ends_with("20, 21, and 28 more"), "{message}");
    assert_eq!(hint, None);
}

#[test]
fn a_name_with_an_escape_sequence_is_shown_escaped() {
    let dir = release(&["\x1b[2J", "other"]);
    assert!(!refused(&dir, "app").to_string().contains('\x1b'));
}

#[test]
fn a_directory_is_no_program() {
    let dir = release(&["app/app*", "zzz"]);
    let (message, hint) = told(&dir, "app");
    assert_eq!(message, "the entrypoint `app` is not a file");
    assert_eq!(hint.unwrap(), "did you mean `app/app`?");
}

#[test]
fn a_file_without_the_execute_bit_is_named() {
    let dir = release(&["bin/app"]);
    let (message, hint) = told(&dir, "bin/app");
    assert_eq!(message, "the entrypoint `bin/app` is not executable");
    assert_eq!(hint.unwrap(), "chmod +x bin/app, then deploy again");
}
