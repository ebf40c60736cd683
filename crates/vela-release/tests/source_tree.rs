//! A tree that source is synced into and built in: caches work, a crash is made good, and whoever owns the tree can
//! neither have something outside written nor read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tar::EntryType;
use tempfile::TempDir;
use vela_release::{
    ArchiveError, Artifact, Limits, Owner, PackError, Packed, Pick, ReleaseError, Selection,
    Sha256Digest, SourceTree, StoreOptions, Synced,
};
use world::{Tar, World, id, names};

/// A tree with a directory beside it that must never be touched.
struct Tree {
    dir: TempDir,
    tree: SourceTree,
}

impl Tree {
    fn new() -> Tree {
        Tree::with(StoreOptions::default())
    }

    fn with(options: StoreOptions) -> Tree {
        let dir = TempDir::new().unwrap();
        // Builds pass through it.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/main.rs"), "outside").unwrap();
        let tree = SourceTree::open(dir.path().join("build"), options).unwrap();
        Tree { dir, tree }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.tree.root().join(name)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn try_sync(&self, source: Tar) -> Result<Synced, ReleaseError> {
        let bytes = source.gz();
        let path = self.dir.path().join("source.tar.gz");
        fs::write(&path, &bytes).unwrap();
        let artifact = Artifact {
            path,
            size: bytes.len() as u64,
            sha256: Sha256Digest::of(&bytes[..]).unwrap(),
        };
        self.tree.sync(id(1), &artifact, &AtomicBool::new(false))
    }

    fn sync(&self, source: Tar) -> Synced {
        self.try_sync(source).unwrap()
    }

    fn pack(&self, selection: Selection<'_>) -> Result<(Vec<u8>, Packed), PackError> {
        let mut bytes = Vec::new();
        let packed = self
            .tree
            .pack(selection, &mut bytes, &AtomicBool::new(false))?;
        assert_eq!(packed.sha256, Sha256Digest::of(&bytes[..]).unwrap());
        Ok((bytes, packed))
    }

    /// What a release holds that is made of a part of the tree.
    fn packed(&self, selection: Selection<'_>) -> BTreeMap<String, String> {
        contents(&self.pack(selection).unwrap().0)
    }

    fn assert_outside_is_whole(&self) {
        assert_eq!(names(&self.outside()), ["main.rs"]);
        let file = self.outside().join("main.rs");
        assert_eq!(fs::read_to_string(&file).unwrap(), "outside");
        assert_eq!(
            fs::metadata(file).unwrap().uid(),
            rustix::process::geteuid().as_raw()
        );
    }
}

/// The files of an archive, as a store unpacks it; a link is `-> target`.
fn contents(archive: &[u8]) -> BTreeMap<String, String> {
    let world = World::new();
    let root = world.stage(archive).unwrap().path;
    let mut found = BTreeMap::new();
    let mut left = vec![root.clone()];
    while let Some(path) = left.pop() {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        if path.is_symlink() {
            found.insert(
                name,
                format!("-> {}", fs::read_link(&path).unwrap().display()),
            );
        } else if path.is_dir() {
            left.extend(names(&path).into_iter().map(|name| path.join(name)));
        } else {
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn modified(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).unwrap().modified().unwrap()
}

fn source() -> Tar {
    Tar::default()
        .file("Cargo.toml", "[package]")
        .file("src/main.rs", "one")
        .file("src/lib.rs", "lib")
        .symlink("latest", "src/main.rs")
}

fn pairs(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = expected.iter();
    pairs
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn what_has_not_changed_keeps_its_time_and_what_a_build_left_stays() {
    let tree = Tree::new();
    let first = tree.sync(source().file("old/deep/gone.rs", "gone"));
    assert_eq!((first.added, first.changed, first.removed), (5, 0, 0));
    assert_eq!(
        first.root_files.iter().collect::<Vec<_>>(),
        ["Cargo.toml", "latest"]
    );
    fs::create_dir(tree.at("target")).unwrap();
    fs::write(tree.at("target/cache"), "cached").unwrap();
    fs::write(tree.at("old/made"), "by the build").unwrap();
    fs::write(tree.at("src/lib.rs"), "changed by the build").unwrap();
    let times =
        |names: &[&str]| -> Vec<_> { names.iter().map(|n| modified(&tree.at(n))).collect() };
    let (kept, moved) = (["Cargo.toml", "latest"], ["src/main.rs", "src/lib.rs"]);
    let an_hour_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
    for name in ["Cargo.toml", "src/main.rs", "src/lib.rs"] {
        let file = fs::File::options().write(true).open(tree.at(name)).unwrap();
        file.set_modified(an_hour_ago).unwrap();
    }
    let (before, others) = (times(&kept), times(&moved));

    let second = tree.sync(
        Tar::default()
            .file("Cargo.toml", "[package]")
            .file("src/main.rs", "two")
            .file("src/lib.rs", "lib")
            .file("src/new.rs", "new")
            .symlink("latest", "src/main.rs"),
    );
    assert_eq!(
        (
            second.added,
            second.changed,
            second.unchanged,
            second.removed
        ),
        (1, 2, 2, 1)
    );
    assert_eq!(times(&kept), before);
    assert!(
        times(&moved)
            .iter()
            .zip(&others)
            .all(|(now, then)| now > then)
    );
    assert_eq!(fs::read_to_string(tree.at("src/lib.rs")).unwrap(), "lib");
    assert_eq!(names(&tree.at("old")), ["made"], "the build's own stays");
    assert_eq!(
        fs::read_to_string(tree.at("target/cache")).unwrap(),
        "cached"
    );
    assert_eq!(
        names(&tree.dir.path().join("build")),
        ["home", "sources", "tree"]
    );
}

#[test]
fn a_mode_is_the_sources() {
    let tree = Tree::new();
    let script = |mode| Tar::default().raw(EntryType::Regular, "run", "", mode, 0, &[]);
    tree.sync(script(0o755));
    let mode = || fs::metadata(tree.at("run")).unwrap().mode() & 0o7777;
    assert_eq!(mode(), 0o755);
    fs::set_permissions(tree.at("run"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(tree.sync(script(0o755)).changed, 1);
    assert_eq!(mode(), 0o755);
    assert_eq!(tree.sync(script(0o644)).changed, 1);
    assert_eq!(tree.sync(script(0o644)).unchanged, 1);
}

#[test]
fn files_and_directories_take_each_others_place() {
    let tree = Tree::new();
    tree.sync(
        Tar::default()
            .file("a", "file")
            .file("b/c", "in a directory"),
    );
    fs::create_dir(tree.at("b/made")).unwrap();
    fs::write(tree.at("b/made/by"), "the build").unwrap();
    tree.sync(
        Tar::default()
            .file("a/c", "in a directory")
            .file("b", "file"),
    );
    assert_eq!(
        tree.packed(Selection::At(Path::new(""))),
        pairs(&[("a/c", "in a directory"), ("b", "file")])
    );
    // A directory that a build has put in the place of a file that the source lost is the build's.
    fs::remove_file(tree.at("b")).unwrap();
    fs::create_dir(tree.at("b")).unwrap();
    assert_eq!(tree.sync(Tar::default().file("x", "x")).removed, 1);
    assert_eq!(names(&tree.tree.root()), ["b", "x"]);
}

#[test]
fn a_directory_is_not_too_deep_to_be_replaced() {
    let tree = Tree::new();
    tree.sync(Tar::default().file("a", "file"));
    fs::remove_file(tree.at("a")).unwrap();
    // Longer than a path may be: by what a build can do as well.
    for _ in 0..4 {
        let below = tree.at(&"d/".repeat(1_500));
        fs::create_dir_all(&below).unwrap();
        if tree.at("a").exists() {
            fs::rename(tree.at("a"), below.join("a")).unwrap();
        }
        fs::rename(tree.at("d"), tree.at("a")).unwrap();
    }
    tree.sync(Tar::default().file("a", "file"));
    assert_eq!(fs::read_to_string(tree.at("a")).unwrap(), "file");
}

#[test]
fn no_link_is_followed_when_source_is_brought_in() {
    let tree = Tree::new();
    tree.sync(source().file("old/main.rs", "gone soon"));
    // Instead of a directory with source, of a file of the source, and of one that is to go.
    for name in ["src", "old"] {
        fs::remove_dir_all(tree.at(name)).unwrap();
        symlink(tree.outside(), tree.at(name)).unwrap();
    }
    fs::remove_file(tree.at("Cargo.toml")).unwrap();
    symlink(tree.outside().join("main.rs"), tree.at("Cargo.toml")).unwrap();
    tree.sync(source());
    tree.assert_outside_is_whole();
    assert!(tree.at("old").is_symlink(), "not the source's to remove");
    for (name, text) in [("src/main.rs", "one"), ("Cargo.toml", "[package]")] {
        assert!(!tree.at(name).is_symlink());
        assert_eq!(fs::read_to_string(tree.at(name)).unwrap(), text);
    }
    assert!(!tree.at("src").is_symlink());
}

#[test]
fn nothing_outside_is_packed() {
    let tree = Tree::new();
    tree.sync(source());
    fs::create_dir_all(tree.at("dist/real")).unwrap();
    fs::write(tree.at("dist/real/app"), "app").unwrap();
    symlink("real", tree.at("dist/inside")).unwrap();
    symlink(tree.outside(), tree.at("absolute")).unwrap();
    symlink("../../outside", tree.at("above")).unwrap();

    // A path may lead through links, so long as they stay inside.
    let inside = tree.packed(Selection::At(Path::new("dist/inside")));
    assert_eq!(inside, pairs(&[("app", "app")]));
    let inside = tree.packed(Selection::At(Path::new("dist/inside/app")));
    assert_eq!(inside, pairs(&[("app", "app")]));
    for path in [
        "absolute",
        "above",
        "above/main.rs",
        "absolute/main.rs",
        "..",
    ] {
        let refused = tree.pack(Selection::At(Path::new(path))).unwrap_err();
        assert!(
            matches!(refused, PackError::Read { .. }),
            "{path}: {refused:?}"
        );
        assert_eq!(tree.tree.names(Path::new(path)), None, "{path}");
    }
    // A link among what is packed is a link, or refused.
    let linked = tree.packed(Selection::At(Path::new("dist")));
    assert_eq!(linked, pairs(&[("inside", "-> real"), ("real/app", "app")]));
    let take_links = |path: &Path| match path.to_str() {
        Some("above" | "absolute") => Pick::Take,
        _ => Pick::Skip,
    };
    let refused = tree.pack(Selection::Picked(&take_links)).unwrap_err();
    assert!(
        matches!(refused, PackError::UnsafeLink { .. }),
        "{refused:?}"
    );
    tree.assert_outside_is_whole();
}

#[test]
fn what_is_picked_keeps_its_path() {
    let tree = Tree::new();
    tree.sync(
        source()
            .file("dist/a.js", "a")
            .file("dist/deep/b.js", "b")
            .file("dist/c.css", "c"),
    );
    // As Cargo leaves its programs: with a second name.
    fs::hard_link(tree.at("dist/a.js"), tree.at("dist/a-123.js")).unwrap();
    let pick = |path: &Path| match path.to_str().unwrap() {
        "Cargo.toml" | "dist/deep" => Pick::Take,
        "dist" | "latest" => Pick::Descend,
        path if path.ends_with("a.js") => Pick::Take,
        _ => Pick::Skip,
    };
    assert_eq!(
        tree.packed(Selection::Picked(&pick)),
        pairs(&[
            ("Cargo.toml", "[package]"),
            ("dist/a.js", "a"),
            ("dist/deep/b.js", "b")
        ])
    );
    let nothing = tree.pack(Selection::Picked(&|_| Pick::Skip)).unwrap_err();
    assert!(matches!(nothing, PackError::Empty { .. }));
    let missing = tree.pack(Selection::At(Path::new("dist/x"))).unwrap_err();
    assert!(matches!(missing, PackError::NotFound { .. }));
    let dist = tree.tree.names(Path::new("dist")).unwrap();
    assert_eq!(dist, ["a-123.js", "a.js", "c.css", "deep/"]);
}

#[test]
fn limits_and_cancels_end_it() {
    let limits = Limits {
        max_files: 4,
        max_bytes: 100,
    };
    let tree = Tree::with(StoreOptions {
        limits,
        ..StoreOptions::default()
    });
    let all = Selection::At(Path::new(""));
    tree.sync(Tar::default().file("a", "a").file("b/c", "c"));
    assert_eq!(tree.pack(all).unwrap().1.files, 2);
    let huge = fs::File::create(tree.at("huge")).unwrap();
    // Sparse, so that it costs nothing to make and would cost much to pack.
    huge.set_len(1 << 40).unwrap();
    let refused = tree.pack(all).unwrap_err();
    assert!(
        matches!(refused, PackError::TooManyBytes { limit: 100 }),
        "{refused:?}"
    );
    fs::remove_file(tree.at("huge")).unwrap();
    fs::write(tree.at("d"), "d").unwrap();
    fs::write(tree.at("e"), "e").unwrap();
    let refused = tree.pack(all).unwrap_err();
    assert!(
        matches!(refused, PackError::TooManyFiles { limit: 4 }),
        "{refused:?}"
    );
    let cancelled = tree.tree.pack(all, Vec::new(), &AtomicBool::new(true));
    assert!(matches!(cancelled, Err(PackError::Cancelled)));

    let many = Tar::default().file("1/2/3", "").file("4", "").file("5", "");
    let refused = tree.try_sync(many).unwrap_err();
    assert!(
        matches!(
            &refused,
            ReleaseError::Refused {
                source: ArchiveError::TooManyFiles { .. },
                ..
            }
        ),
        "{refused:?}"
    );
}

#[test]
fn a_hostile_archive_changes_nothing() {
    let tree = Tree::new();
    tree.sync(source());
    for archive in [
        Tar::default().file("../outside/main.rs", "x"),
        Tar::default()
            .symlink("link", "../../outside")
            .file("link/main.rs", "x"),
        Tar::default()
            .file("src/main.rs", "x")
            .symlink("away", "/etc/passwd"),
        Tar::default().raw(EntryType::Regular, "su", "", 0o4755, 0, &[]),
    ] {
        let refused = tree.try_sync(archive).unwrap_err();
        assert!(
            matches!(refused, ReleaseError::Refused { .. }),
            "{refused:?}"
        );
        assert_eq!(names(&tree.tree.root()), ["Cargo.toml", "latest", "src"]);
        assert_eq!(
            names(&tree.dir.path().join("build")),
            ["home", "sources", "tree"]
        );
    }
    tree.assert_outside_is_whole();
    assert_eq!(tree.sync(source()).unchanged, 4);
}

#[test]
fn a_sync_that_was_cut_is_made_good_by_the_next() {
    let tree = Tree::new();
    tree.sync(source());
    // As after a crash in the middle: the list has both sources, the tree some of each, and the new one lies about.
    let list = tree.dir.path().join("build/sources");
    let mut both = fs::read(&list).unwrap();
    both.extend(b"src/half.rs\0src/never.rs\0");
    fs::write(&list, both).unwrap();
    fs::write(tree.at("src/half.rs"), "half").unwrap();
    fs::create_dir_all(tree.dir.path().join("build/.incoming/source")).unwrap();
    fs::write(tree.dir.path().join("build/.sources.next"), "src/ha").unwrap();

    let reopened = SourceTree::open(tree.dir.path().join("build"), StoreOptions::default());
    let tree = Tree {
        dir: tree.dir,
        tree: reopened.unwrap(),
    };
    let synced = tree.sync(source());
    assert_eq!((synced.unchanged, synced.removed), (4, 1));
    assert_eq!(names(&tree.at("src")), ["lib.rs", "main.rs"]);
    assert_eq!(
        names(&tree.dir.path().join("build")),
        ["home", "sources", "tree"]
    );
}

/// Exchanges a directory and a file of the source for links to the outside and back, as fast as it can, and plants the
/// links again that a sync has removed.
fn race(root: &Path, outside: &Path, stop: &AtomicBool) -> u64 {
    use rustix::fs::{CWD, Mode, OFlags, RenameFlags, open, renameat_with};
    let mut swaps = 0;
    let plant = |name: &str, target: &Path| {
        let path = root.join(name);
        if !path.is_symlink() {
            drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
            drop(symlink(target, path));
        }
    };
    while !stop.load(Ordering::Relaxed) {
        if !root.join("src").is_symlink() {
            plant("planted", outside);
            plant("planted-file", &outside.join("main.rs"));
            // By the open directory: by its name it might be the outside by now.
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
            if let Ok(src) = open(root.join("src"), flags, Mode::empty()) {
                let link = root.join("planted-file");
                let swapped = renameat_with(&src, "main.rs", CWD, link, RenameFlags::EXCHANGE);
                swaps += u64::from(swapped.is_ok());
            }
        }
        let (src, planted) = (root.join("src"), root.join("planted"));
        let swapped = renameat_with(CWD, src, CWD, planted, RenameFlags::EXCHANGE);
        swaps += u64::from(swapped.is_ok());
    }
    swaps
}

#[test]
fn a_race_for_the_outside_is_lost() {
    let tree = Tree::new();
    tree.sync(source());
    let stop = Arc::new(AtomicBool::new(false));
    let racer = {
        let (stop, root, outside) = (Arc::clone(&stop), tree.tree.root(), tree.outside());
        std::thread::spawn(move || race(&root, &outside, &stop))
    };
    let mut synced = 0;
    let mut packs = 0;
    for turn in 0..300 {
        let text = format!("turn {turn}");
        // It may fail, for what it looks at changes under its hands.
        let turn = tree.try_sync(source().file("src/turn.rs", &text));
        synced += u64::from(turn.is_ok());
        let pick = |path: &Path| match path.to_str() {
            Some("src") => Pick::Descend,
            Some("src/lib.rs" | "src/main.rs" | "Cargo.toml") => Pick::Take,
            _ => Pick::Skip,
        };
        if let Ok((bytes, _)) = tree.pack(Selection::Picked(&pick)) {
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..])
                .read_to_end(&mut tar)
                .unwrap();
            assert!(
                !tar.windows(7).any(|window| window == b"outside\0"),
                "packed"
            );
            packs += 1;
        }
        if let Ok((bytes, _)) = tree.pack(Selection::At(Path::new("src/main.rs"))) {
            assert_ne!(contents(&bytes)["main.rs"], "outside");
        }
        assert_eq!(names(&tree.outside()), ["main.rs"]);
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = racer.join().unwrap();
    println!("{swaps} swaps; {synced} syncs and {packs} packs went through");
    assert!(swaps > 100 && synced > 0 && packs > 0);
    tree.assert_outside_is_whole();
}

/// Whoever owns the tree has everything in it, and gets nothing else.
#[test]
fn the_tree_is_its_owners() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let owner = Owner {
        uid: 64_001,
        gid: 64_002,
    };
    let options = StoreOptions {
        owner: Some(owner),
        ..StoreOptions::default()
    };
    let tree = Tree::with(options);
    tree.sync(source().dir("src", 0o755));
    let owned = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.uid(), metadata.gid()) == (owner.uid, owner.gid)
    };
    for path in [
        tree.tree.root(),
        tree.tree.home(),
        tree.at("src"),
        tree.at("src/main.rs"),
    ] {
        assert!(owned(&path), "{}", path.display());
    }
    let build = fs::metadata(tree.dir.path().join("build")).unwrap();
    assert_eq!((build.uid(), build.mode() & 0o7777), (0, 0o711));

    // A second name of a file of root's is neither taken for the user's, nor packed.
    fs::remove_file(tree.at("src/main.rs")).unwrap();
    fs::hard_link(tree.outside().join("main.rs"), tree.at("src/main.rs")).unwrap();
    let refused = tree.pack(Selection::At(Path::new("src"))).unwrap_err();
    assert!(matches!(refused, PackError::Foreign { .. }), "{refused:?}");
    assert_eq!(tree.sync(source()).changed, 1);
    assert!(owned(&tree.at("src/main.rs")));
    tree.assert_outside_is_whole();

    // Another user begins anew: what the first has left is nothing to build with.
    fs::write(tree.at("cache"), "poisoned").unwrap();
    chown(tree.at("cache"), Some(owner.uid), Some(owner.gid)).unwrap();
    let other = Owner {
        uid: 64_003,
        gid: 64_003,
    };
    let options = StoreOptions {
        owner: Some(other),
        ..options
    };
    let reopened = SourceTree::open(tree.dir.path().join("build"), options).unwrap();
    assert_eq!(names(&reopened.root()), [] as [&str; 0]);
    assert_eq!(fs::metadata(reopened.home()).unwrap().uid(), other.uid);
    let tree = Tree {
        dir: tree.dir,
        tree: reopened,
    };
    assert_eq!(tree.sync(source()).added, 4);
}
