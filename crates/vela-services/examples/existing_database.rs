//! Checks a database and shows what a program would get for it:
//! `cargo run -p vela-services --example existing_database -- postgres://user:password@host/db`
//!
//! Without a url it tries one where nobody listens, and shows the error.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use secrecy::SecretString;
use vela_services::{ExistingPostgres, OwnerName, Provisioner, ServiceSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or_else(|| "postgres://my_app:secret@127.0.0.1:1/my_app".into());
    let owner: OwnerName = "my-app".parse()?;
    let spec = ServiceSpec::existing(SecretString::from(url));

    match ExistingPostgres::new().ensure(&owner, &spec).await {
        Ok(bindings) => {
            let names: Vec<_> = bindings.keys().map(String::as_str).collect();
            println!("{owner} gets {}", names.join(", "));
        }
        Err(error) => {
            println!("error: {error}");
            if let Some(source) = error.source() {
                println!("cause: {source}");
            }
            if let Some(hint) = error.hint() {
                println!("hint: {hint}");
            }
        }
    }
    Ok(())
}
