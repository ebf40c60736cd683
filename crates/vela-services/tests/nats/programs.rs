//! Which program is the server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use vela_services::{Provisioner, ServiceError, ServiceSpec};

use super::world::{Wire, World, plain};

/// A program that says that it is of this version, and is the machine's otherwise.
fn fake(dir: &Path, version: &str) {
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'nats-server: v{version}'; exit; fi\n\
         exec /usr/sbin/nats-server \"$@\"\n"
    );
    let file = dir.join("nats-server");
    fs::write(&file, script).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn version(version: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.version = Some(version.into());
    spec
}

#[tokio::test]
async fn the_machines_program_if_it_will_do() {
    let world = World::new();
    for asked in ["2", "2.9", "2.9.10"] {
        world.ensure("one", &version(asked)).await;
    }
    let error = world
        .try_ensure("two", &version("2.10"))
        .await
        .err()
        .unwrap();
    let ServiceError::NotInstalled {
        version: wanted, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(wanted.as_deref(), Some("2.10.0"));
    assert_eq!(
        error.to_string(),
        "`nats` is not installed in version 2.10.0"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("nats-server is 2.9.10"), "{source}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains("releases/download/v2.10.0/nats-server-v2.10.0-linux-")
    );

    // What could not be had is in nobody's way.
    assert!(!world.path("owners/two.toml").exists());
    let one = world.ensure("one", &version("2.9")).await;
    Wire::login(&one).unwrap();
    world.ensure("two", &plain()).await;
    for nonsense in ["latest", "1.4", "3", "v2", ""] {
        let error = world
            .try_ensure("two", &version(nonsense))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, ServiceError::Invalid { key: "version", .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn one_that_is_too_old_or_no_program_is_passed_over() {
    let dirs: Vec<_> = (0..4).map(|_| TempDir::new().unwrap()).collect();
    for dir in &dirs {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fake(dirs[0].path(), "2.8.4");
    fs::write(dirs[1].path().join("nats-server"), "not executable").unwrap();
    fs::create_dir(dirs[2].path().join("nats-server")).unwrap();
    fake(dirs[3].path(), "2.9.10");
    let paths: Vec<_> = dirs.iter().map(|dir| dir.path().to_owned()).collect();
    let world = World::with(|nats| nats.download(None).programs(paths));
    Wire::login(&world.ensure("one", &plain()).await).unwrap();
    let status = world.nats.status().await.unwrap();
    assert_eq!(status[0].version.as_deref(), Some("2.9.10"));

    let none = World::with(|nats| nats.download(None).programs(Vec::new()));
    let error = none.try_ensure("one", &plain()).await.err().unwrap();
    assert!(
        matches!(error, ServiceError::NotInstalled { .. }),
        "{error:?}"
    );
}
