//! Runs a NATS server with an account each for two programs, in a temporary directory:
//! `cargo run -p vela-services --example nats`
//!
//! It is the machine's nats-server, or one that is downloaded.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Instant;

use vela_services::{
    Children, JetStream, Nats, OwnerName, Provisioner, Runner, ServerName, ServiceSpec,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    // As root the server runs as a user of its own, who has to pass.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711))?;
    let runner = Arc::new(Children::new(dir.path().join("logs")));
    let nats = Nats::new(dir.path().join("nats"), runner.clone());

    let mut spec = ServiceSpec::default();
    spec.subjects = vec!["orders.>".to_owned()];
    spec.jetstream = Some(JetStream::default());
    for owner in ["my-shop", "mail", "mail"] {
        let owner: OwnerName = owner.parse()?;
        let started = Instant::now();
        match nats.ensure(&owner, &spec).await {
            Ok(bindings) => {
                let names: Vec<_> = bindings.keys().map(String::as_str).collect();
                println!(
                    "{owner} gets {} after {:?}",
                    names.join(", "),
                    started.elapsed()
                );
            }
            Err(error) => {
                println!("error: {error}");
                if let Some(hint) = error.hint() {
                    println!("hint: {hint}");
                }
                return Ok(());
            }
        }
    }
    for status in nats.status().await? {
        println!("{} listens on {}", status.server, status.address);
        for owner in status.owners {
            println!("  {} may use {}", owner.owner, owner.holds.join(", "));
        }
    }
    runner.stop(&ServerName::parse("nats")?).await?;
    Ok(())
}
