//! The store: the conformance suite, the link `current`, what a crash left, and cancellation.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use vela_release::test_util::{FailAt, StoreCall, When, conformance};
use vela_release::{
    Artifact, DirStore, ReleaseError, ReleaseStore, Releases, Sha256Digest, StoreOptions,
};
use world::{Tar, World, block_on, id, names};

fn app() -> Tar {
    Tar::default().raw(tar::EntryType::Regular, "bin/app", "", 0o775, 7, b"program")
}

#[tokio::test]
async fn a_directory_keeps_every_promise() {
    let dir = TempDir::new().unwrap();
    let mut count = 0;
    conformance(|| {
        count += 1;
        let app = dir.path().join(count.to_string()).join("nested/app");
        DirStore::open(app, StoreOptions::default()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn the_wrapper_keeps_every_promise_until_it_is_armed() {
    let dir = TempDir::new().unwrap();
    let mut count = 0;
    conformance(|| {
        count += 1;
        let app = dir.path().join(count.to_string());
        FailAt::new(Arc::new(
            DirStore::open(app, StoreOptions::default()).unwrap(),
        ))
    })
    .await;
}

#[tokio::test]
async fn an_armed_wrapper_fails_on_the_side_it_was_told() {
    let world = World::new();
    let store = FailAt::new(Arc::new(world.store.clone()));
    let artifact = world.artifact(&app().gz());
    store.arm(StoreCall::Stage, When::Before);
    assert!(
        store
            .stage(id(1), &artifact)
            .await
            .unwrap_err()
            .is_disk_full()
    );
    assert_eq!(store.list().await.unwrap(), Releases::default());
    store.arm(StoreCall::Stage, When::After);
    assert!(
        store
            .stage(id(1), &artifact)
            .await
            .unwrap_err()
            .is_disk_full()
    );
    assert_eq!(store.list().await.unwrap().all.len(), 1);
    store.disarm();
    store.stage(id(2), &artifact).await.unwrap();
    assert_eq!(store.hits(), 2);
}

#[test]
fn what_a_crash_left_is_swept_and_nothing_else() {
    let world = World::new();
    world.stage(&app().gz()).unwrap();
    let releases = world.app().join("releases");
    for leftover in [".20260305-140002.partial", ".20260305-140003.removed"] {
        fs::create_dir_all(releases.join(leftover).join("sealed")).unwrap();
        fs::write(releases.join(leftover).join("sealed/file"), "x").unwrap();
        let sealed = releases.join(leftover).join("sealed");
        fs::set_permissions(sealed, Permissions::from_mode(0o555)).unwrap();
    }
    for foreign in [".keep", ".mine.partial", "notes"] {
        fs::write(releases.join(foreign), "x").unwrap();
    }
    symlink(
        "releases/20260305-140002",
        world.app().join(".current.next"),
    )
    .unwrap();

    let store = DirStore::open(world.app(), StoreOptions::default()).unwrap();
    assert_eq!(names(&world.app()), ["releases"]);
    assert_eq!(
        names(&releases),
        [".keep", ".mine.partial", "20260305-140001", "notes"]
    );
    assert_eq!(block_on(store.list()).unwrap().all.len(), 1);
}

#[test]
fn a_leftover_of_the_same_id_is_in_nobodys_way() {
    let world = World::new();
    let partial = world.app().join("releases/.20260305-140001.partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("stale"), "x").unwrap();
    let release = world.stage(&app().gz()).unwrap();
    assert_eq!(names(&release.path), ["bin"]);
}

#[test]
fn current_is_a_relative_link() {
    let world = World::new();
    world.stage(&app().gz()).unwrap();
    block_on(world.store.activate(id(1))).unwrap();
    let link = fs::read_link(world.app().join("current")).unwrap();
    assert_eq!(link, Path::new("releases/20260305-140001"));
    assert_eq!(
        fs::read_to_string(world.app().join("current/bin/app")).unwrap(),
        "program"
    );
    assert_eq!(names(&world.app()), ["current", "releases"]);
}

#[test]
fn a_current_of_somebody_else_is_left_alone() {
    let world = World::new();
    world.stage(&app().gz()).unwrap();
    let current = world.app().join("current");
    let refused = |what: &str| {
        let error = block_on(world.store.activate(id(1))).unwrap_err();
        assert!(
            matches!(error, ReleaseError::ForeignCurrent { .. }),
            "{what}: {error:?}"
        );
        let error = block_on(world.store.list()).unwrap_err();
        assert!(
            matches!(error, ReleaseError::ForeignCurrent { .. }),
            "{what}: {error:?}"
        );
    };
    symlink("/srv/elsewhere", &current).unwrap();
    refused("a link");
    fs::remove_file(&current).unwrap();
    fs::write(&current, "x").unwrap();
    refused("a file");
    assert_eq!(fs::read_to_string(&current).unwrap(), "x");
}

#[test]
fn who_looks_at_current_always_finds_a_release() {
    let world = World::new();
    let artifact = world.artifact(&app().gz());
    for release in [1, 2] {
        block_on(world.store.stage(id(release), &artifact)).unwrap();
    }
    block_on(world.store.activate(id(1))).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(
                    world.app().join("current/bin/app").exists(),
                    "there was no release"
                );
                looks += 1;
            }
            looks
        });
        for release in (1..=2).cycle().take(100) {
            block_on(world.store.activate(id(release))).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn a_dropped_call_leaves_nothing_and_later_ones_wait_for_it() {
    let world = World::new();
    let large = "x".repeat(60_000_000);
    let artifact = world.artifact(&Tar::default().file("large", &large).gz());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = world.store.clone();
        let announced = artifact.clone();
        let staging = tokio::spawn(async move { store.stage(id(1), &announced).await });
        let releases = world.app().join("releases");
        while names(&releases).is_empty() {
            assert!(
                !staging.is_finished(),
                "it was done before it could be dropped"
            );
            tokio::task::yield_now().await;
        }
        staging.abort();
        assert!(staging.await.unwrap_err().is_cancelled());
        // Waits until the dropped call is done with, and finds nothing of it.
        let missing = world.store.activate(id(1)).await;
        assert!(
            matches!(missing, Err(ReleaseError::NotFound { .. })),
            "{missing:?}"
        );
        world.assert_untouched();
        world.store.stage(id(1), &artifact).await.unwrap();
    });
}

#[test]
fn two_at_once_take_turns() {
    let world = World::new();
    let artifact = world.artifact(&app().gz());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcomes = runtime.block_on(async {
        tokio::join!(
            world.store.stage(id(1), &artifact),
            world.store.stage(id(1), &artifact)
        )
    });
    let (done, refused) = match outcomes {
        (Ok(done), Err(refused)) | (Err(refused), Ok(done)) => (done, refused),
        other => panic!("{other:?}"),
    };
    assert!(
        matches!(refused, ReleaseError::AlreadyExists { .. }),
        "{refused:?}"
    );
    assert!(done.path.join("bin/app").exists());
}

#[test]
fn an_artifact_that_is_not_there_is_named() {
    let world = World::new();
    let path = world.dir.path().join("none");
    let artifact = Artifact {
        path,
        size: 1,
        sha256: Sha256Digest::from_bytes([0; 32]),
    };
    let error = block_on(world.store.stage(id(1), &artifact)).unwrap_err();
    assert!(error.to_string().ends_with("/none`"), "{error}");
}
