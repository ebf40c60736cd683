use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use crate::{
    Artifact, ReleaseError, ReleaseId, ReleaseStore, Releases, Sha256Digest, entrypoint, pack,
};

/// Asserts what every [`ReleaseStore`] promises. `make_store` gives a store that is empty, a new
/// one for each promise. Call it from a test of a tokio runtime.
///
/// # Panics
///
/// On the first promise that is broken.
pub async fn conformance<S: ReleaseStore>(mut make_store: impl FnMut() -> S) {
    let artifacts = Artifacts::new();
    starts_empty(&make_store()).await;
    stages_what_was_packed(&make_store(), &artifacts).await;
    never_replaces_a_release(&make_store(), &artifacts).await;
    refuses_damage_and_leaves_nothing(&make_store(), &artifacts).await;
    activates_one_at_a_time(&make_store(), &artifacts).await;
    seals_twice(&make_store(), &artifacts).await;
    removes_all_but_the_current(&make_store(), &artifacts).await;
    drops_what_is_cancelled(&make_store(), &artifacts).await;
}

async fn starts_empty(store: &impl ReleaseStore) {
    assert_eq!(store.list().await.expect("list"), Releases::default());
}

async fn stages_what_was_packed(store: &impl ReleaseStore, artifacts: &Artifacts) {
    let release = store.stage(id(1), &artifacts.good).await.expect("stage");
    assert_eq!(release.id, id(1));
    let program = entrypoint(&release.path, Path::new("bin/app")).expect("entrypoint");
    assert_eq!(fs::read_to_string(program).expect("read"), PROGRAM);
    let link = fs::read_link(release.path.join("app")).expect("read link");
    assert_eq!(link, Path::new("bin/app"));
    let releases = store.list().await.expect("list");
    assert_eq!(releases.current, None, "staging does not activate");
    assert_eq!(releases.all, [release]);
}

async fn never_replaces_a_release(store: &impl ReleaseStore, artifacts: &Artifacts) {
    let release = store.stage(id(1), &artifacts.good).await.expect("stage");
    let again = store.stage(id(1), &artifacts.good).await;
    assert!(
        matches!(again, Err(ReleaseError::AlreadyExists { .. })),
        "{again:?}"
    );
    assert!(
        release.path.join("bin/app").exists(),
        "a refused call took the release away"
    );
}

async fn refuses_damage_and_leaves_nothing(store: &impl ReleaseStore, artifacts: &Artifacts) {
    let Artifact { path, size, sha256 } = artifacts.good.clone();
    let wrong = Artifact {
        path: path.clone(),
        size: size + 1,
        sha256,
    };
    let refused = store.stage(id(1), &wrong).await;
    assert!(
        matches!(refused, Err(ReleaseError::WrongSize { .. })),
        "{refused:?}"
    );

    let wrong = Artifact {
        path,
        size,
        sha256: Sha256Digest::from_bytes([0; 32]),
    };
    let refused = store.stage(id(1), &wrong).await;
    assert!(
        matches!(refused, Err(ReleaseError::WrongChecksum { .. })),
        "{refused:?}"
    );

    let refused = store.stage(id(1), &artifacts.truncated).await;
    assert!(
        matches!(refused, Err(ReleaseError::Refused { .. })),
        "{refused:?}"
    );

    assert_eq!(store.list().await.expect("list"), Releases::default());
    store
        .stage(id(1), &artifacts.good)
        .await
        .expect("the id is free again");
}

async fn activates_one_at_a_time(store: &impl ReleaseStore, artifacts: &Artifacts) {
    let missing = store.activate(id(1)).await;
    assert!(
        matches!(missing, Err(ReleaseError::NotFound { .. })),
        "{missing:?}"
    );
    for second in [2, 1] {
        store
            .stage(id(second), &artifacts.good)
            .await
            .expect("stage");
    }
    assert_eq!(store.activate(id(1)).await.expect("activate"), None);
    assert_eq!(store.activate(id(2)).await.expect("activate"), Some(id(1)));
    assert_eq!(
        store.activate(id(2)).await.expect("activate again"),
        Some(id(2))
    );
    let missing = store.activate(id(3)).await;
    assert!(
        matches!(missing, Err(ReleaseError::NotFound { .. })),
        "{missing:?}"
    );
    let releases = store.list().await.expect("list");
    assert_eq!(releases.current, Some(id(2)));
    assert_eq!(releases.newest(), Some(id(2)));
    let ids: Vec<ReleaseId> = releases.all.iter().map(|release| release.id).collect();
    assert_eq!(ids, [id(1), id(2)], "oldest first");
}

async fn seals_twice(store: &impl ReleaseStore, artifacts: &Artifacts) {
    let missing = store.seal(id(1)).await;
    assert!(
        matches!(missing, Err(ReleaseError::NotFound { .. })),
        "{missing:?}"
    );
    let release = store.stage(id(1), &artifacts.good).await.expect("stage");
    for _ in 0..2 {
        store.seal(id(1)).await.expect("seal");
        let program = entrypoint(&release.path, Path::new("bin/app")).expect("still executable");
        for path in [&release.path, &program] {
            let mode = fs::metadata(path).expect("metadata").permissions().mode();
            assert_eq!(
                mode & 0o222,
                0,
                "{} can still be written to",
                path.display()
            );
        }
    }
}

async fn removes_all_but_the_current(store: &impl ReleaseStore, artifacts: &Artifacts) {
    let first = store.stage(id(1), &artifacts.good).await.expect("stage");
    store.stage(id(2), &artifacts.good).await.expect("stage");
    store.seal(id(1)).await.expect("seal");
    store.activate(id(2)).await.expect("activate");
    let current = store.remove(id(2)).await;
    assert!(
        matches!(current, Err(ReleaseError::IsCurrent { .. })),
        "{current:?}"
    );
    for _ in 0..2 {
        store.remove(id(1)).await.expect("remove");
        assert!(!first.path.exists(), "a removed release is still there");
    }
    let releases = store.list().await.expect("list");
    assert_eq!(releases.current, Some(id(2)));
    assert_eq!(releases.all.len(), 1);
}

async fn drops_what_is_cancelled(store: &impl ReleaseStore, artifacts: &Artifacts) {
    // Polled once, so begun; then dropped.
    let mut staging = store.stage(id(1), &artifacts.good);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let begun = staging.as_mut().poll(&mut context);
    drop(staging);
    // Whatever became of it, the id is whole or free, and can be removed and used.
    if begun.is_pending() {
        store.remove(id(1)).await.expect("remove");
        assert_eq!(store.list().await.expect("list"), Releases::default());
        store.stage(id(1), &artifacts.good).await.expect("stage");
    }
}

const PROGRAM: &str = "#!/bin/sh\n";

struct Artifacts {
    good: Artifact,
    truncated: Artifact,
    _dir: TempDir,
}

impl Artifacts {
    fn new() -> Self {
        let dir = TempDir::new().expect("temp dir");
        let source = dir.path().join("source");
        fs::create_dir_all(source.join("bin")).expect("mkdir");
        fs::write(source.join("bin/app"), PROGRAM).expect("write");
        fs::set_permissions(source.join("bin/app"), Permissions::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::symlink("bin/app", source.join("app")).expect("link");

        let path = dir.path().join("good.tar.gz");
        let packed = pack(&source, File::create(&path).expect("create"), &mut |_| {});
        let packed = packed.expect("pack");
        let good = Artifact {
            path,
            size: packed.size,
            sha256: packed.sha256,
        };

        let path = dir.path().join("truncated.tar.gz");
        let mut bytes = fs::read(&good.path).expect("read");
        bytes.truncate(bytes.len() / 2);
        fs::write(&path, &bytes).expect("write");
        let sha256 = Sha256Digest::of(&bytes[..]).expect("digest");
        let truncated = Artifact {
            path,
            size: bytes.len() as u64,
            sha256,
        };

        Self {
            good,
            truncated,
            _dir: dir,
        }
    }
}

fn id(second: u8) -> ReleaseId {
    format!("20260305-1430{second:02}").parse().expect("an id")
}
