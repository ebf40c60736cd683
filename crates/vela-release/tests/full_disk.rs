//! A disk that gets full while a release is unpacked.
//!
//! The test runs itself again as a child on a real full file system: a tiny tmpfs in a mount
//! namespace of the child's own. Where no namespace can be made, the child's files are limited
//! in size instead, which fails in the same place.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its child talks to it"
)]

mod world;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use vela_release::{Artifact, DirStore, ReleaseError, ReleaseStore, Sha256Digest, StoreOptions};
use world::{Tar, block_on, id, names};

const APP_DIR: &str = "VELA_RELEASE_FULL_DISK_APP";
const ARTIFACT: &str = "VELA_RELEASE_FULL_DISK_ARTIFACT";
const PASSED: &str = "the child saw a full disk and nothing left behind";

#[test]
fn a_full_disk_fails_cleanly() {
    if let (Some(app), Some(artifact)) = (std::env::var_os(APP_DIR), std::env::var_os(ARTIFACT)) {
        return on_a_small_disk(Path::new(&app), PathBuf::from(artifact));
    }
    let mounted = "mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\"";
    let ran = in_child(&["unshare", "--mount", "sh", "-c", mounted])
        || in_child(&[
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mounted,
        ]);
    assert!(ran || limited(), "no kind of full disk could be made");
}

#[test]
fn a_file_too_large_for_its_limit_fails_cleanly() {
    if let (Some(app), Some(artifact)) = (std::env::var_os(APP_DIR), std::env::var_os(ARTIFACT)) {
        return on_a_small_disk(Path::new(&app), PathBuf::from(artifact));
    }
    assert!(limited(), "the file size could not be limited");
}

/// Limits files to 1,024 blocks of 512 or 1,024 bytes; without the signal, writing fails.
fn limited() -> bool {
    in_child(&["sh", "-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\""])
}

/// Runs the child under a wrapper, and says whether the wrapper worked. What the child itself
/// finds wrong fails the test.
fn in_child(wrapper: &[&str]) -> bool {
    let dir = TempDir::new().unwrap();
    let app = dir.path().join("disk");
    fs::create_dir(&app).unwrap();
    let archive = Tar::default()
        .file("a/small", "x")
        .file("a/b/large", &"0123456789abcdef".repeat(2_000_000 / 16))
        .gz();
    let artifact = dir.path().join("artifact");
    fs::write(&artifact, archive).unwrap();
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(&app)
        .arg(std::env::current_exe().unwrap())
        .args(["--nocapture", "--exact", "a_full_disk_fails_cleanly"])
        .env(APP_DIR, &app)
        .env(ARTIFACT, &artifact)
        .output();
    let Ok(output) = output else { return false };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        !out.contains("panicked") && !err.contains("panicked"),
        "{out}\n{err}"
    );
    output.status.success() && out.contains(PASSED)
}

fn on_a_small_disk(app: &Path, artifact: PathBuf) {
    let bytes = fs::read(&artifact).unwrap();
    let sha256 = Sha256Digest::of(&bytes[..]).unwrap();
    let artifact = Artifact {
        path: artifact,
        size: bytes.len() as u64,
        sha256,
    };
    let store = DirStore::open(app.to_owned(), StoreOptions::default()).unwrap();
    let before = fs::metadata(app).unwrap().blocks();

    for _ in 0..2 {
        let error = block_on(store.stage(id(1), &artifact)).unwrap_err();
        assert!(
            matches!(
                error,
                ReleaseError::Io {
                    action: "write",
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.is_disk_full(), "{error:?}");
        assert!(error.hint().unwrap().contains("free space"), "{error:?}");
        assert_eq!(names(&app.join("releases")), [] as [&str; 0], "left behind");
        assert_eq!(fs::metadata(app).unwrap().blocks(), before);
    }
    println!("{PASSED}");
}
