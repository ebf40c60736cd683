//! Archives that are refused whole, with nothing left behind, and those that only look alike.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use proptest::prelude::*;
use tar::EntryType;
use vela_release::ArchiveError;
use world::{Tar, World, gz, names};

/// An archive that is refused only for what is added to it.
fn sound() -> Tar {
    Tar::default().file("app", "program")
}

macro_rules! assert_refused {
    ($archive:expr, $error:pat $(if $guard:expr)?) => {
        let refused = World::new().refused(&$archive);
        assert!(matches!(refused, $error $(if $guard)?), "{refused:?}");
    };
}

#[test]
fn names_that_leave() {
    let long = format!("{}../victim", "./".repeat(200));
    for name in ["../victim", "/victim", "a/../../victim", "..", "", "a/.."] {
        assert_refused!(
            sound().file(name, "x").gz(),
            ArchiveError::UnsafeName { .. }
        );
        assert_refused!(
            sound().dir(name, 0o755).gz(),
            ArchiveError::UnsafeName { .. }
        );
        let pax = sound().pax(&[("path", name)]).file("harmless", "x");
        assert_refused!(pax.gz(), ArchiveError::UnsafeName { .. });
    }
    let gnu = sound().entry(EntryType::GNULongName, "././@LongLink", long.as_bytes());
    assert_refused!(
        gnu.file("harmless", "x").gz(),
        ArchiveError::UnsafeName { .. }
    );
    let nul = sound().entry(EntryType::GNULongName, "././@LongLink", b"a\0b\0");
    assert_refused!(
        nul.file("harmless", "x").gz(),
        ArchiveError::UnsafeName { .. }
    );
    assert_refused!(
        sound().file("./", "x").gz(),
        ArchiveError::UnsafeName { .. }
    );
}

#[test]
fn links_that_leave() {
    for target in [
        "/etc/passwd",
        "..",
        "../victim",
        "a/../../victim",
        "a/..",
        "",
    ] {
        assert_refused!(
            sound().symlink("link", target).gz(),
            ArchiveError::UnsafeLink { .. }
        );
    }
    assert_refused!(
        sound().symlink("a/link", "../../v").gz(),
        ArchiveError::UnsafeLink { .. }
    );
    let pax = sound()
        .pax(&[("linkpath", "../victim")])
        .symlink("link", "app");
    assert_refused!(pax.gz(), ArchiveError::UnsafeLink { .. });
    let by_another = sound()
        .symlink("a/b/root", "../..")
        .symlink("a/b/link", "root/../victim");
    assert_refused!(by_another.gz(), ArchiveError::UnsafeLink { .. });
}

#[test]
fn files_written_through_a_link_or_a_file() {
    let archive = Tar::default()
        .dir("dir", 0o755)
        .symlink("link", "dir")
        .file("link/x", "x");
    assert_refused!(archive.gz(), ArchiveError::NotADirectory { .. });
    let archive = Tar::default().symlink("link", "dangling").file("link", "x");
    assert_refused!(archive.gz(), ArchiveError::Duplicate { .. });
    assert_refused!(
        sound().file("app/x", "x").gz(),
        ArchiveError::NotADirectory { .. }
    );
    assert_refused!(
        sound().dir("app/x", 0o755).gz(),
        ArchiveError::NotADirectory { .. }
    );
}

#[test]
fn hard_links_to_anything_but_an_earlier_file() {
    for target in [
        "/etc/passwd",
        "../victim",
        "app/../../victim",
        "later",
        "link",
        "dir",
        "",
    ] {
        let archive = sound().symlink("link", "app").dir("dir", 0o755);
        let archive = archive
            .link(EntryType::Link, "hard", target)
            .file("later", "x");
        assert_refused!(archive.gz(), ArchiveError::UnsafeHardLink { .. });
    }
}

#[test]
fn things_that_are_no_files() {
    let kinds = [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
    ];
    for kind in kinds
        .into_iter()
        .chain([EntryType::Continuous, EntryType::new(b'Z')])
    {
        assert_refused!(
            sound().entry(kind, "x", b"").gz(),
            ArchiveError::Unsupported { .. }
        );
    }
    let sparse = sound().pax(&[("GNU.sparse.major", "1")]).file("x", "x");
    assert_refused!(sparse.gz(), ArchiveError::Unsupported { .. });
}

#[test]
fn bits_that_lend_rights() {
    for mode in [0o4755, 0o2755, 0o6755] {
        let file = sound().raw(EntryType::Regular, "x", "", mode, 0, &[]);
        assert_refused!(file.gz(), ArchiveError::SetId { .. });
        assert_refused!(sound().dir("dir", mode).gz(), ArchiveError::SetId { .. });
    }
}

#[test]
fn names_that_come_twice() {
    assert_refused!(
        sound().file("app", "y").gz(),
        ArchiveError::Duplicate { .. }
    );
    assert_refused!(
        sound().file("./app", "y").gz(),
        ArchiveError::Duplicate { .. }
    );
    assert_refused!(
        sound().dir("app", 0o755).gz(),
        ArchiveError::Duplicate { .. }
    );
    assert_refused!(
        sound().symlink("app", "x").gz(),
        ArchiveError::Duplicate { .. }
    );
    assert_refused!(
        sound().dir("d", 0o755).dir("d/", 0o700).gz(),
        ArchiveError::Duplicate { .. }
    );
    assert_refused!(
        sound().dir(".", 0o755).dir("./", 0o755).gz(),
        ArchiveError::Duplicate { .. }
    );
}

#[test]
fn more_files_than_the_limit() {
    let world = World::limited(3, 1000);
    let archive = sound().file("b", "").file("c", "");
    let refused = world.refused(&archive.clone().file("d", "").gz());
    assert!(
        matches!(refused, ArchiveError::TooManyFiles { limit: 3 }),
        "{refused:?}"
    );
    let refused = world.refused(&sound().file("a/b/c", "").gz());
    assert!(
        matches!(refused, ArchiveError::TooManyFiles { limit: 3 }),
        "{refused:?}"
    );
    world.stage(&archive.gz()).unwrap();
}

#[test]
fn more_bytes_than_the_limit() {
    let world = World::limited(10, 1000);
    let sizes = |one: usize, two: usize| {
        Tar::default()
            .file("a", &"a".repeat(one))
            .file("b", &"b".repeat(two))
            .gz()
    };
    let too_many = |refused| matches!(refused, ArchiveError::TooManyBytes { limit: 1000 });
    assert!(too_many(world.refused(&sizes(500, 501))));
    // A bomb is refused for what it announces, before a byte of it is written.
    let zeros = vec![0; 50_000_000];
    assert!(too_many(world.refused(
        &sound().entry(EntryType::Regular, "bomb", &zeros).gz()
    )));
    let announced = sound().raw(EntryType::Regular, "bomb", "", 0o644, u64::MAX / 2, &[]);
    assert!(too_many(world.refused(&announced.gz())));
    // What is no file's content counts as well, or it could go on for ever.
    let hidden = sound().raw(EntryType::Directory, "d", "", 0o755, 5_000, &zeros[..5_000]);
    assert!(too_many(world.refused(&hidden.gz())));
    world.stage(&sizes(500, 500)).unwrap();
}

#[test]
fn an_archive_that_is_cut_anywhere() {
    let whole = sound().file("dir/b", "content").gz();
    let world = World::new();
    for length in 0..whole.len() {
        world.refused(&whole[..length]);
    }
    world.stage(&whole).unwrap();
}

#[test]
fn a_tar_stream_that_is_cut_anywhere_inside_a_sound_gzip_stream() {
    let tar = sound().file("dir/b", "content").0;
    let world = World::new();
    for length in (0..=tar.len()).step_by(128) {
        let refused = world.refused(&gz(&tar[..length]));
        let told = matches!(
            refused,
            ArchiveError::Truncated | ArchiveError::Corrupt { .. }
        );
        assert!(told, "{length}: {refused:?}");
    }
}

#[test]
fn something_after_the_end() {
    let whole = sound().gz();
    let after = |more: &[u8]| [&whole, more].concat();
    assert_refused!(after(b"x"), ArchiveError::TrailingData);
    assert_refused!(after(&[0]), ArchiveError::TrailingData);
    assert_refused!(after(&whole), ArchiveError::TrailingData);
    let inside = [&sound().end().0[..], b"x"].concat();
    assert_refused!(gz(&inside), ArchiveError::TrailingData);
    let second = [sound().end().0, sound().file("b", "").end().0].concat();
    assert_refused!(gz(&second), ArchiveError::TrailingData);
    let zeros = [&sound().end().0[..], &[0; 4_000_000]].concat();
    assert_refused!(gz(&zeros), ArchiveError::TrailingData);
}

#[test]
fn what_is_no_archive() {
    assert_refused!([], ArchiveError::Truncated);
    assert_refused!(*b"\x7fELF, not packed at all", ArchiveError::Corrupt { .. });
    assert_refused!(gz(&[b'x'; 2048]), ArchiveError::Corrupt { .. });
    assert_refused!(Tar::default().gz(), ArchiveError::Empty);
    assert_refused!(Tar::default().dir("a/b", 0o755).gz(), ArchiveError::Empty);
    let mut wrong_crc = sound().gz();
    let crc = wrong_crc.len() - 8;
    wrong_crc[crc] ^= 1;
    assert_refused!(wrong_crc, ArchiveError::Corrupt { .. });
}

#[test]
fn extended_headers_that_make_no_sense() {
    let long =
        |tar: Tar, length| tar.entry(EntryType::GNULongName, "././@LongLink", &vec![b'a'; length]);
    let huge = long(sound(), 1 << 20).file("x", "");
    assert_refused!(huge.gz(), ArchiveError::ExtendedHeader);
    let twice = long(long(sound(), 150), 150).file("x", "");
    assert_refused!(twice.gz(), ArchiveError::ExtendedHeader);
    let size = sound().pax(&[("size", "4096")]).file("x", "x");
    assert_refused!(size.gz(), ArchiveError::ExtendedHeader);
    let garbage = sound()
        .entry(EntryType::XHeader, "pax", b"not pax")
        .file("x", "x");
    assert_refused!(garbage.gz(), ArchiveError::ExtendedHeader);
    let of_nothing = long(sound(), 150);
    assert_refused!(of_nothing.gz(), ArchiveError::Truncated);
    let mut many = sound();
    for _ in 0..10 {
        many = many.entry(EntryType::XGlobalHeader, "pax", b"");
    }
    assert_refused!(many.file("x", "x").gz(), ArchiveError::ExtendedHeader);
}

#[test]
fn directories_too_deep_to_be_deleted_again() {
    let name = "d/".repeat(1000);
    let pax = sound().pax(&[("path", &name)]).dir("d", 0o755);
    assert_refused!(pax.gz(), ArchiveError::TooDeep { .. });
}

#[test]
fn a_name_too_long_for_the_file_system_fails_cleanly() {
    let world = World::new();
    let pax = sound().pax(&[("path", &"n".repeat(300))]).file("x", "x");
    let error = world.stage(&pax.gz()).unwrap_err();
    assert!(error.to_string().starts_with("cannot create"), "{error}");
    world.assert_untouched();
}

#[test]
fn a_message_has_no_control_characters_of_the_archive() {
    let refused = World::new().refused(&sound().file("../\x1b[2J", "").gz());
    assert!(!refused.to_string().contains('\x1b'), "{refused}");
}

#[test]
fn what_only_looks_hostile_is_unpacked() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let longer = format!("{}/{}", "p".repeat(200), "q".repeat(200));
    let archive = Tar::default()
        .entry(EntryType::XGlobalHeader, "pax_global_header", b"")
        .dir("./", 0o750)
        .file("./bin/app", "program")
        .dir("bin", 0o555)
        .file("..hidden", "dots")
        .symlink("link", "bin/app")
        .symlink("bin/up", "../bin/./app")
        .symlink("dangling", "not/there")
        .symlink("itself", "itself")
        .symlink("here", ".")
        .link(EntryType::Link, "hard", "./bin/app")
        .entry(
            EntryType::GNULongName,
            "././@LongLink",
            format!("{long}\0").as_bytes(),
        )
        .file("cut off", "long")
        .pax(&[
            ("path", &longer),
            ("mtime", "1"),
            ("SCHILY.xattr.user.a", "b"),
        ])
        .file("cut off", "longer")
        .raw(EntryType::Regular, "mode", "", 0o1640, 0, &[]);
    let world = World::new();
    let release = world.stage(&archive.gz()).unwrap().path;

    let read = |name: &str| fs::read_to_string(release.join(name)).unwrap();
    let mode = |name: &str| {
        fs::metadata(release.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    for name in ["bin/app", "link", "bin/up", "hard", "here/bin/app"] {
        assert_eq!(read(name), "program", "{name}");
    }
    assert_eq!((read("..hidden"), read(&long), read(&longer)), {
        ("dots".to_owned(), "long".to_owned(), "longer".to_owned())
    });
    assert_eq!(
        fs::read_link(release.join("dangling")).unwrap(),
        Path::new("not/there")
    );
    assert_eq!(fs::metadata(release.join("hard")).unwrap().nlink(), 2);
    assert_eq!(mode(""), 0o750);
    assert_eq!(mode("mode"), 0o640);
    assert_eq!(mode("bin/app"), 0o644);
    assert_eq!(mode("bin"), 0o755, "its owner can always use a directory");
    assert_eq!(
        mode(&"d".repeat(120)),
        0o755,
        "of a directory that only a name led through"
    );
    assert_eq!(names(&world.app().join("releases")).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the bytes are, with a checksum that matches them: a release or nothing.
    #[test]
    fn bytes_changed_at_random(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), packed in any::<bool>()) {
        let tar = sound().dir("d", 0o755).symlink("d/l", "../app").pax(&[("path", "p")]).file("x", "y");
        let mut bytes = if packed { tar.gz() } else { tar.end().0 };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let world = World::new();
        if world.stage(&if packed { bytes } else { gz(&bytes) }).is_err() {
            world.assert_untouched();
        }
    }
}
