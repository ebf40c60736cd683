//! Packs two versions of a program, stages them, and switches `current` from one to the other.
//!
//! `cargo run -p vela-release --example switch`

use std::error::Error;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use vela_release::{Artifact, DirStore, ReleaseId, ReleaseStore, StoreOptions, entrypoint, pack};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = DirStore::open(dir.path().join("my-app"), StoreOptions::default())?;

    for version in 1..=2 {
        let artifact = build(dir.path(), version)?;
        let newest = store.list().await?.newest();
        let id = ReleaseId::next_after(jiff::Timestamp::now(), newest);

        let started = Instant::now();
        let release = store.stage(id, &artifact).await?;
        println!(
            "version {version}: staged {} bytes in {:?}",
            artifact.size,
            started.elapsed()
        );

        let program = entrypoint(&release.path, Path::new("my-app"))?;
        store.seal(id).await?;
        match store.activate(id).await? {
            Some(previous) => println!("switched from {previous} to {}", program.display()),
            None => println!("switched to {}", program.display()),
        }
    }
    println!(
        "current -> {}",
        fs::read_link(dir.path().join("my-app/current"))?.display()
    );
    Ok(())
}

/// A program of a megabyte, in an archive.
fn build(dir: &Path, version: u32) -> Result<Artifact, Box<dyn Error>> {
    let program = dir.join("my-app.built").join("my-app");
    fs::create_dir_all(dir.join("my-app.built"))?;
    let noise = (0..250_000_u32).map(|n| n.wrapping_mul(2_654_435_761) ^ version);
    let mut content = format!("#!/bin/sh\necho version {version}; exit\n").into_bytes();
    content.extend(noise.flat_map(u32::to_le_bytes));
    fs::write(&program, content)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;

    let path = dir.join(format!("my-app-{version}.tar.gz"));
    let packed = pack(&dir.join("my-app.built"), File::create(&path)?, &mut |_| {})?;
    Ok(Artifact {
        path,
        size: packed.size,
        sha256: packed.sha256,
    })
}
