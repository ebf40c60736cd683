//! Packing: what goes in comes out, the same files make the same bytes, and what no server takes
//! is refused at once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use vela_release::{PackError, Packed, Progress, Sha256Digest, pack};
use world::{World, names};

fn packed(source: &Path) -> Result<(Vec<u8>, Packed), PackError> {
    let mut bytes = Vec::new();
    let packed = pack(source, &mut bytes, &mut |_| {})?;
    Ok((bytes, packed))
}

fn refused(source: &Path) -> PackError {
    packed(source).unwrap_err()
}

fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_becomes_a_release_of_that_file() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("my-app"), "program", 0o755);
    symlink("my-app", dir.path().join("latest")).unwrap();
    let (bytes, packed) = packed(&dir.path().join("latest")).unwrap();
    assert_eq!((packed.files, packed.bytes), (1, 7));
    assert_eq!(packed.size, bytes.len() as u64);
    assert_eq!(packed.sha256, Sha256Digest::of(&bytes[..]).unwrap());

    let release = World::new();
    let path = release.stage(&bytes).unwrap().path;
    assert_eq!(names(&path), ["latest"]);
    assert_eq!(fs::read_to_string(path.join("latest")).unwrap(), "program");
    assert!(!path.join("latest").is_symlink());
}

#[test]
fn a_mode_is_kept_and_no_execute_bit_added() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("app"), "program", 0o640);
    let world = World::new();
    let (bytes, _) = packed(&dir.path().join("app")).unwrap();
    let path = world.stage(&bytes).unwrap().path.join("app");
    assert_eq!(
        fs::metadata(path).unwrap().permissions().mode() & 0o7777,
        0o640
    );
}

#[test]
fn the_same_files_make_the_same_bytes() {
    let one = TempDir::new().unwrap();
    let two = TempDir::new().unwrap();
    let files = ["z", "a", "dir/b", "dir/a", "other/deep/er/x"];
    for name in files {
        write(&one.path().join(name), name, 0o644);
    }
    for name in files.iter().rev() {
        write(&two.path().join(name), name, 0o644);
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100_000);
        fs::File::open(two.path().join(name))
            .unwrap()
            .set_modified(later)
            .unwrap();
    }
    assert_eq!(packed(one.path()).unwrap(), packed(two.path()).unwrap());
}

#[test]
fn links_are_kept_as_they_are() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("bin/app"), "program", 0o755);
    let long = format!("bin/{}", "n".repeat(150));
    let links = [
        ("a", "bin/app"),
        ("bin/b", "../bin/app"),
        ("c", "./none"),
        ("d", "bin"),
        ("e", &long),
    ];
    for (link, target) in links {
        symlink(target, dir.path().join(link)).unwrap();
    }
    let (bytes, packed) = packed(dir.path()).unwrap();
    assert_eq!((packed.files, packed.bytes), (6, 7));
    let world = World::new();
    let release = world.stage(&bytes).unwrap().path;
    for (link, target) in links {
        assert_eq!(
            fs::read_link(release.join(link)).unwrap(),
            Path::new(target)
        );
    }
}

#[test]
fn progress_is_told_within_large_files_and_ends_with_the_total() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("large"), vec![7; 3_000_000], 0o644);
    write(&dir.path().join("small"), "x", 0o644);
    let mut told: Vec<Progress> = Vec::new();
    let packed = pack(dir.path(), io::sink(), &mut |progress| told.push(progress)).unwrap();
    assert!(told.len() > 8, "{told:?}");
    assert!(told.is_sorted_by_key(|progress| (progress.bytes, progress.files)));
    let last = told.last().unwrap();
    assert_eq!((last.files, last.bytes), (packed.files, packed.bytes));
    assert_eq!((last.files, last.bytes), (2, 3_000_001));
}

#[test]
fn nothing_to_pack() {
    let dir = TempDir::new().unwrap();
    let missing = refused(&dir.path().join("missing"));
    assert!(matches!(missing, PackError::NotFound { .. }), "{missing:?}");
    assert!(missing.to_string().ends_with("missing`"), "{missing}");
    assert!(matches!(refused(dir.path()), PackError::Empty { .. }));
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    assert!(matches!(refused(dir.path()), PackError::Empty { .. }));
    write(&dir.path().join("file"), "", 0o755);
    assert!(matches!(
        refused(&dir.path().join("file")),
        PackError::Empty { .. }
    ));
}

#[test]
fn what_no_archive_can_hold_is_named() {
    let dir = TempDir::new().unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    let error = refused(dir.path());
    assert!(
        error
            .to_string()
            .ends_with("/socket` is a socket, which can't be packed"),
        "{error}"
    );
    let error = refused(&dir.path().join("socket"));
    assert!(matches!(error, PackError::Unsupported { .. }), "{error:?}");
    let error = refused(Path::new("/dev/null"));
    assert!(
        matches!(
            error,
            PackError::Unsupported {
                kind: "a device",
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn what_no_server_takes_is_refused_before_it_is_sent() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("app"), "program", 0o4755);
    assert!(matches!(refused(dir.path()), PackError::SetId { .. }));
    write(&dir.path().join("app"), "program", 0o755);
    for target in ["/etc/passwd", "..", "../x", "app/../.."] {
        let link = dir.path().join("link");
        symlink(target, &link).unwrap();
        assert!(
            matches!(refused(dir.path()), PackError::UnsafeLink { .. }),
            "{target}"
        );
        fs::remove_file(link).unwrap();
    }
    write(&dir.path().join("d/".repeat(140)).join("x"), "x", 0o644);
    assert!(matches!(refused(dir.path()), PackError::TooDeep { .. }));
}

#[test]
fn the_deepest_directories_that_are_packed_are_unpacked() {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("d/".repeat(127)).join("x"), "x", 0o644);
    let (bytes, _) = packed(dir.path()).unwrap();
    World::new().stage(&bytes).unwrap();
    write(&dir.path().join("d/".repeat(128)).join("x"), "x", 0o644);
    assert!(matches!(refused(dir.path()), PackError::TooDeep { .. }));
}

#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    for change in [0_u64, 5_000_000] {
        write(&path, vec![7; 3_000_000], 0o644);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let result = pack(dir.path(), io::sink(), &mut |_| {
            file.set_len(change).unwrap()
        });
        assert!(
            matches!(result, Err(PackError::Changed { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_full_disk_is_an_error_of_writing() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(buffer.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = TempDir::new().unwrap();
    let noise: Vec<u8> = (0..2_000_000_u32)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    write(&dir.path().join("app"), noise, 0o644);
    for room in [0, 100, 100_000] {
        let result = pack(dir.path(), Full(room), &mut |_| {});
        assert!(matches!(result, Err(PackError::Write { .. })), "{result:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(files in prop::collection::btree_map("[a-c]/[a-c\u{e9} ]{1,3}|[d-f]{1,120}", (prop::collection::vec(any::<u8>(), 0..2000), any::<bool>()), 1..20)) {
        let dir = TempDir::new().unwrap();
        for (name, (content, executable)) in &files {
            write(&dir.path().join(name), content, if *executable { 0o755 } else { 0o600 });
        }
        let (bytes, packed) = packed(dir.path()).unwrap();
        prop_assert_eq!(packed.files, files.len() as u64);
        let world = World::new();
        let release = world.stage(&bytes).unwrap().path;
        let mut unpacked = BTreeMap::new();
        for name in files.keys() {
            let path = release.join(name);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            unpacked.insert(name.clone(), (fs::read(path).unwrap(), mode & 0o7777 == 0o755));
        }
        prop_assert_eq!(unpacked, files);
    }
}
