//! A process that is killed while it stages, activates and removes releases.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its child talks to it"
)]

mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use vela_release::{Artifact, DirStore, ReleaseId, ReleaseStore, Sha256Digest, StoreOptions};
use world::{Tar, block_on, names};

/// The variable that makes the test binary stage and remove releases in this directory until it
/// is killed.
const VICTIM: &str = "VELA_RELEASE_CRASH_DIR";

#[test]
fn a_kill_at_any_moment_leaves_whole_releases_only() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        stage_until_killed(Path::new(&dir));
    }
    let dir = TempDir::new().unwrap();
    let mut swept = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_kill_at_any_moment_leaves_whole_releases_only",
                "--nocapture",
            ])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut begun = lines
            .map(|line| line.unwrap())
            .filter(|line| line.contains("step: "));
        let steps = 1 + round % 6;
        assert_eq!(
            begun.by_ref().take(steps).count(),
            steps,
            "the child ended by itself"
        );
        // Half of the rounds end as a step begins, wherever that is; half amid a stage or removal.
        let releases = dir.path().join("app/releases");
        let half_made = || names(&releases).iter().any(|name| name.starts_with('.'));
        while round >= 6 && !half_made() {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the child ended by itself"
            );
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        swept += usize::from(half_made());

        let store = DirStore::open(dir.path().join("app"), StoreOptions::default()).unwrap();
        let releases = block_on(store.list()).unwrap();
        let mut expected: Vec<String> = releases.all.iter().map(|one| one.id.to_string()).collect();
        assert_eq!(
            names(&dir.path().join("app/releases")),
            expected,
            "not swept"
        );
        for release in &releases.all {
            assert_eq!(names(&release.path).len(), FILES, "a release is not whole");
        }
        expected.retain(|id| {
            releases
                .current
                .is_some_and(|current| current.to_string() == *id)
        });
        assert_eq!(
            expected.len(),
            usize::from(releases.current.is_some()),
            "current dangles"
        );
    }
    assert!(swept > 0, "no round was killed amid anything");
}

const FILES: usize = 40;

fn stage_until_killed(dir: &Path) -> ! {
    let mut archive = Tar::default();
    for file in 0..FILES {
        archive = archive.file(&file.to_string(), &"content".repeat(5000));
    }
    let bytes = archive.gz();
    let path = dir.join("artifact");
    fs::write(&path, &bytes).unwrap();
    let sha256 = Sha256Digest::of(&bytes[..]).unwrap();
    let artifact = Artifact {
        path,
        size: bytes.len() as u64,
        sha256,
    };
    let store = DirStore::open(dir.join("app"), StoreOptions::default()).unwrap();
    let mut next = block_on(store.list()).unwrap().newest();
    loop {
        let id = ReleaseId::next_after(jiff::Timestamp::UNIX_EPOCH, next);
        println!("step: stage");
        block_on(store.stage(id, &artifact)).unwrap();
        println!("step: activate");
        block_on(store.activate(id)).unwrap();
        println!("step: remove");
        if let Some(previous) = next {
            block_on(store.remove(previous)).unwrap();
        }
        next = Some(id);
    }
}
