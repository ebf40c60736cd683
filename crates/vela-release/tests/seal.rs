//! To whom a release belongs, before it is sealed and after.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use vela_release::{Owner, ReleaseError, ReleaseStore, StoreOptions};
use world::{Tar, World, block_on, id, names};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An owner that this process can give files to: somebody else if it is root, else itself.
fn owner() -> Owner {
    if is_root() {
        Owner {
            uid: 54_321,
            gid: 54_322,
        }
    } else {
        Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }
}

fn app() -> Tar {
    Tar::default().raw(tar::EntryType::Regular, "bin/app", "", 0o775, 7, b"program")
}

#[test]
fn a_release_belongs_to_its_owner_until_it_is_sealed() {
    let owner = owner();
    let world = World::with(StoreOptions {
        owner: Some(owner),
        ..StoreOptions::default()
    });
    let archive = app()
        .raw(tar::EntryType::Regular, "secret", "", 0o600, 0, &[])
        .link(tar::EntryType::Link, "hard", "bin/app")
        .symlink("link", "bin/app");
    let Ok(release) = world.stage(&archive.gz()) else {
        panic!("not staged")
    };
    let of = |name: &str| {
        let metadata = fs::metadata(release.path.join(name)).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(of(""), (owner.uid, owner.gid, 0o755));
    assert_eq!(of("bin"), (owner.uid, owner.gid, 0o755));
    assert_eq!(of("bin/app"), (owner.uid, owner.gid, 0o775));
    assert_eq!(of("secret"), (owner.uid, owner.gid, 0o600));

    if !is_root() {
        // Nobody else can give files to root.
        let error = block_on(world.store.seal(id(1))).unwrap_err();
        assert!(matches!(error, ReleaseError::Io { .. }), "{error:?}");
        return;
    }
    // What a hook wrote is sealed as well.
    fs::write(release.path.join("bin/built"), "x").unwrap();
    chown(
        release.path.join("bin/built"),
        Some(owner.uid),
        Some(owner.gid),
    )
    .unwrap();
    for _ in 0..2 {
        block_on(world.store.seal(id(1))).unwrap();
        assert_eq!(of(""), (0, owner.gid, 0o555));
        assert_eq!(of("bin"), (0, owner.gid, 0o555));
        assert_eq!(of("bin/app"), (0, owner.gid, 0o555));
        assert_eq!(of("hard"), (0, owner.gid, 0o555));
        assert_eq!(of("secret"), (0, owner.gid, 0o440));
        assert_eq!(of("bin/built"), (0, owner.gid, 0o444));
    }
    block_on(world.store.remove(id(1))).unwrap();
}

#[test]
fn sealing_takes_the_write_bits_and_no_others() {
    let world = World::new();
    let archive = app()
        .dir("dir", 0o770)
        .raw(tar::EntryType::Regular, "dir/a", "", 0o200, 0, &[]);
    let release = world.stage(&archive.gz()).unwrap().path;
    for _ in 0..2 {
        block_on(world.store.seal(id(1))).unwrap();
        let mode = |name: &str| fs::metadata(release.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(
            (mode(""), mode("bin/app"), mode("dir")),
            (0o555, 0o555, 0o550)
        );
        assert_eq!(
            fs::symlink_metadata(release.join("dir/a")).unwrap().mode() & 0o7777,
            0
        );
    }
    block_on(world.store.remove(id(1))).unwrap();
    assert_eq!(names(&world.app().join("releases")), [] as [&str; 0]);
}

#[test]
fn sealing_is_not_led_out_of_the_release() {
    let owner = owner();
    let options = StoreOptions {
        owner: is_root().then_some(owner),
        ..StoreOptions::default()
    };
    let world = World::with(options);
    let release = world.stage(&app().gz()).unwrap().path;
    let victim = world.dir.path().join("victim");
    fs::set_permissions(&victim, Permissions::from_mode(0o666)).unwrap();
    symlink(&victim, release.join("to-file")).unwrap();
    symlink(world.dir.path(), release.join("to-directory")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        release.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    block_on(world.store.seal(id(1))).unwrap();
    assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o666);

    if is_root() {
        // A file of the system, hard-linked where the kernel allows it, or moved.
        fs::hard_link(&victim, release.join("hard")).unwrap();
        for links in [2, 1] {
            let error = block_on(world.store.seal(id(1))).unwrap_err();
            assert!(
                matches!(error, ReleaseError::ForeignFile { .. }),
                "{error:?}"
            );
            let metadata = fs::metadata(release.join("hard")).unwrap();
            let now = (metadata.nlink(), metadata.gid(), metadata.mode() & 0o777);
            assert_eq!(now, (links, 0, 0o666));
            if links == 2 {
                fs::remove_file(&victim).unwrap();
            }
        }
    }
}

#[test]
fn what_a_hook_made_too_deep_is_refused_and_can_be_removed() {
    let world = World::new();
    let release = world.stage(&app().gz()).unwrap().path;
    // As deep as an archive could have had it.
    fs::create_dir_all(release.join("d/".repeat(128))).unwrap();
    block_on(world.store.seal(id(1))).unwrap();
    block_on(world.store.remove(id(1))).unwrap();

    let release = world.stage(&app().gz()).unwrap().path;
    fs::create_dir_all(release.join("d/".repeat(129))).unwrap();
    let error = block_on(world.store.seal(id(1))).unwrap_err();
    let ReleaseError::TooDeep { path, limit: 128 } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*path, release.join("d/".repeat(129)));
    assert!(error.hint().is_some());
    block_on(world.store.remove(id(1))).unwrap();
    assert_eq!(names(&world.app().join("releases")), [] as [&str; 0]);
}

#[test]
fn a_seal_that_was_cut_short_is_completed() {
    if !is_root() {
        // Without root a seal is one change of mode a file: there is nothing between its steps.
        return sealing_takes_the_write_bits_and_no_others();
    }
    let owner = owner();
    let world = World::with(StoreOptions {
        owner: Some(owner),
        ..StoreOptions::default()
    });
    let release = world.stage(&app().file("other", "x").gz()).unwrap().path;
    // The directory is done, one file is given away but still writable, the rest is untouched.
    chown(&release, Some(0), Some(owner.gid)).unwrap();
    fs::set_permissions(&release, Permissions::from_mode(0o555)).unwrap();
    chown(release.join("other"), Some(0), Some(owner.gid)).unwrap();
    fs::set_permissions(release.join("other"), Permissions::from_mode(0o664)).unwrap();
    block_on(world.store.seal(id(1))).unwrap();
    for (name, mode) in [("", 0o555), ("other", 0o444), ("bin/app", 0o555)] {
        let metadata = fs::metadata(release.join(name)).unwrap();
        let now = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
        assert_eq!(now, (0, owner.gid, mode), "{name}");
    }
}
