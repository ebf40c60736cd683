//! Provisions a database in a server that is run here, shows what the owner gets, and stops the
//! server again: `cargo run -p vela-services --example postgres -- [directory]`
//!
//! The directory keeps the data and the passwords for the next time; without one it is a temporary
//! one. As root the server runs as a user of its own, which must be able to enter the directory.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use vela_services::{Children, OwnerName, Postgres, Provisioner, Runner, ServiceSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o711))?;
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);

    let runner: Arc<dyn Runner> = Arc::new(Children::new(dir.join("logs")));
    let postgres = Postgres::new(dir.join("postgres"), Arc::clone(&runner));
    let owner: OwnerName = "my-app".parse()?;
    for time in ["first", "second"] {
        let begun = Instant::now();
        match postgres.ensure(&owner, &ServiceSpec::default()).await {
            Ok(bindings) => {
                let names: Vec<_> = bindings.keys().map(String::as_str).collect();
                println!("{time} time, {:?}: {}", begun.elapsed(), names.join(", "));
            }
            Err(error) => {
                println!("error: {error}");
                if let Some(source) = error.source() {
                    println!("cause: {source}");
                }
                for line in error.output() {
                    println!("  | {line}");
                }
                if let Some(hint) = error.hint() {
                    println!("hint: {hint}");
                }
            }
        }
    }
    for server in postgres.status().await? {
        println!("{} listens at {}", server.server, server.address);
        runner.stop(&server.server).await?;
    }
    Ok(())
}
