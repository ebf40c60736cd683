//! A program that the machine does not have is downloaded, and run only if it is the right one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use vela_services::{Download, DownloadError, Provisioner, ServiceError, ServiceSpec};

use super::mirror::{Mirror, VERSION, Way, archive};
use super::world::{Wire, World, name, plain};

/// The machine's program, as a newer one.
fn newer() -> Vec<u8> {
    let paths = ["/usr/sbin/nats-server", "/usr/bin/nats-server"];
    let path = paths.iter().find(|path| Path::new(path).exists());
    let mut program = fs::read(path.expect("nats-server is installed")).unwrap();
    let (old, new) = (b"2.9.10", VERSION.as_bytes());
    let mut at = 0;
    while let Some(found) = program[at..]
        .windows(old.len())
        .position(|bytes| bytes == old)
    {
        at += found + old.len();
        program[at - old.len()..at].copy_from_slice(new);
    }
    program
}

fn release() -> Vec<u8> {
    let directory = format!("nats-server-v{VERSION}-linux-amd64");
    archive(&[
        (&format!("{directory}/README.md"), b"Read me"),
        (&format!("{directory}/nats-server"), &newer()),
        (&format!("{directory}/LICENSE"), b"Apache"),
    ])
}

/// Something small that is no server.
fn small(program: &str) -> Vec<u8> {
    archive(&[
        ("some/where/README", b"Read me"),
        (program, b"#!/bin/sh\nexit 1\n"),
    ])
}

/// A machine without a nats-server.
fn bare(download: Download) -> World {
    World::with(|nats| nats.programs(Vec::new()).download(download))
}

fn newer_spec() -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.version = Some("2.9.50".into());
    spec
}

/// Why the download failed, once it is clear that nothing is left of it.
async fn fails(world: &World) -> (ServiceError, String) {
    let error = world.try_ensure("one", &plain()).await.err().unwrap();
    let ServiceError::Download { url, source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    assert_eq!(
        error.to_string(),
        format!("`nats` could not be downloaded from {url}")
    );
    assert!(error.hint().is_some(), "{error:?}");
    let source = source.to_string();
    assert_eq!(fs::read_dir(world.path("bin")).unwrap().count(), 0);
    assert!(!world.path("owners/one.toml").exists());
    (error, source)
}

fn reason(error: &ServiceError) -> &DownloadError {
    match error {
        ServiceError::Download { source, .. } => source.downcast_ref().unwrap(),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_newer_one_is_downloaded_once_and_takes_over() {
    let mirror = Mirror::new(release(), Way::Redirected);
    let world = World::with(|nats| nats.download(mirror.download()));
    let one = world.ensure("one", &plain()).await;
    assert_eq!(mirror.requests(), 0, "the machine's own is enough");

    let two = world.ensure("two", &newer_spec()).await;
    for access in [&one, &two] {
        Wire::login(access).unwrap();
    }
    let program = world.path(&format!("bin/nats-server-{VERSION}"));
    assert_eq!(
        fs::metadata(&program).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    assert_eq!(fs::read(&program).unwrap(), newer());
    let pid = world.pid().await.unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap(), program);
    let status = world.nats.status().await.unwrap();
    assert_eq!(status[0].version.as_deref(), Some(VERSION));

    // It is not downloaded again, and not exchanged for the machine's.
    world.ensure("two", &newer_spec()).await;
    world.remove("two", true).await;
    world.ensure("two", &newer_spec()).await;
    let world = world.restarted(true);
    world.nats.resume().await.unwrap();
    Wire::login(&one).unwrap();
    assert_eq!(mirror.requests(), 2, "a redirect and a file");
}

#[tokio::test]
async fn another_file_than_the_pinned_one_is_not_run() {
    let mirror = Mirror::new(small("nats-server"), Way::Whole);
    let wanted = "0".repeat(64);
    let world = bare(mirror.pinned_to(&wanted));
    let (error, source) = fails(&world).await;
    assert!(matches!(reason(&error), DownloadError::Checksum { .. }));
    assert_eq!(
        source,
        format!("the file's SHA-256 is {}, not {wanted}", mirror.sha256())
    );
}

#[tokio::test]
async fn what_does_not_arrive_is_said() {
    let world = bare(Mirror::new(small("nats-server"), Way::NotFound).download());
    let (error, source) = fails(&world).await;
    assert!(matches!(
        reason(&error),
        DownloadError::Status { status: 404 }
    ));
    assert_eq!(source, "the server answers 404");

    let file = small("nats-server");
    let world = bare(Mirror::new(file.clone(), Way::Cut).download());
    let (error, source) = fails(&world).await;
    let half = file.len() as u64 / 2;
    assert!(
        matches!(reason(&error), DownloadError::CutOff { received, .. } if *received == half),
        "{error:?}"
    );
    assert_eq!(
        source,
        format!("the download was cut off after {half} bytes")
    );

    let nobody = Download::default()
        .from("http://127.0.0.1:1/{version}")
        .unwrap();
    let (error, _) = fails(&bare(nobody)).await;
    assert!(
        matches!(reason(&error), DownloadError::Unreachable(_)),
        "{error:?}"
    );

    let mirror = Mirror::new(small("nats-server"), Way::Stalled);
    let patience = Duration::from_secs(2);
    let (error, _) = fails(&bare(mirror.download().timeout(patience))).await;
    assert!(
        matches!(reason(&error), DownloadError::CutOff { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_taken() {
    for way in [Way::Whole, Way::Endless] {
        let mirror = Mirror::new(vec![b'x'; 100_001], way);
        let (error, source) = fails(&bare(mirror.download().max_bytes(100_000))).await;
        assert!(matches!(reason(&error), DownloadError::TooLarge { .. }));
        assert_eq!(source, "the file is larger than 100000 bytes");
    }
}

#[tokio::test]
async fn a_file_without_the_program_is_said() {
    let gzip = |bytes: &[u8]| {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let whole = small("nats-server");
    for file in [
        b"<html>Welcome</html>".to_vec(),
        gzip(&[b'x'; 5000]),
        gzip(b"short"),
        whole[..whole.len() / 2].to_vec(),
        Vec::new(),
    ] {
        let mirror = Mirror::new(file, Way::Whole);
        let (error, _) = fails(&bare(mirror.download())).await;
        assert!(
            matches!(reason(&error), DownloadError::NotAnArchive(_)),
            "{error:?}"
        );
    }
    for program in ["bin/nats", "nats-server/README", "nats-server.exe"] {
        let mirror = Mirror::new(small(program), Way::Whole);
        let (error, source) = fails(&bare(mirror.download())).await;
        assert!(
            matches!(reason(&error), DownloadError::NoProgram { .. }),
            "{error:?}"
        );
        assert_eq!(source, "there is no `nats-server` in the archive");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_left_as_it_was() {
    struct Mounted(std::path::PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            assert!(
                Command::new("umount")
                    .arg(&self.0)
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }

    // The archive does not fit, or fits and its program does not.
    let incompressible: Vec<u8> = {
        let mut state = 1u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        std::iter::repeat_with(next)
            .take(50_000)
            .flatten()
            .collect()
    };
    for program in [incompressible, vec![0; 2_000_000]] {
        let mirror = Mirror::new(archive(&[("nats-server", &program)]), Way::Whole);
        let world = bare(mirror.download());
        let bin = world.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"])
            .arg(&bin)
            .status()
            .unwrap();
        assert!(mounted.success(), "a test that needs root");
        let _mounted = Mounted(bin.clone());
        let (error, source) = fails(&world).await;
        assert_eq!(source, format!("cannot write to {}", bin.display()));
        assert_eq!(error.hint().as_deref(), Some("make room on that disk"));
        let cause = std::error::Error::source(reason(&error))
            .unwrap()
            .to_string();
        assert!(cause.contains("No space left on device"), "{cause}");
    }
}

#[tokio::test]
async fn one_that_nobody_waits_for_any_more_leaves_nothing() {
    let mirror = Mirror::new(release(), Way::Stalled);
    let world = bare(mirror.download());
    let (one, spec) = (name("one"), plain());
    let ensuring = world.nats.ensure(&one, &spec);
    let stalled = tokio::task::spawn_blocking({
        let mirror = std::sync::Arc::new(mirror);
        move || mirror.stalled()
    });
    let end = tokio::select! {
        end = stalled => end.unwrap(),
        _ = ensuring => panic!("the mirror stalls"),
    };
    // The future is gone, and the thread that downloads hears of it with the next bytes.
    drop(end);
    assert_eq!(fs::read_dir(world.path("bin")).unwrap().count(), 0);

    // What a killed one left is swept by the next.
    fs::write(world.path("bin/.partial-abc"), "half a program").unwrap();
    let mirror = Mirror::new(release(), Way::Whole);
    let world = world.set_up(|nats| nats.programs(Vec::new()).download(mirror.download()));
    Wire::login(&world.ensure("one", &plain()).await).unwrap();
    let left: Vec<_> = fs::read_dir(world.path("bin"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [format!("nats-server-{VERSION}")]);
}
