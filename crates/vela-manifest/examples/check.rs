//! Checks a manifest and prints what it says, or everything that is wrong with it.
//!
//! `cargo run -p vela-manifest --example check -- path/to/Vela.toml`; without a path, a broken one of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use vela_manifest::Manifest;

const BROKEN: &str = r#"
[app]
name = "My App"
domain = "https://my-app.com"

[deploy]
drian = 5
strategy = "bluegreen"

[env]
DATABASE_PATH = "${datadir}/my-app.db"
"#;

fn main() {
    let manifest = match std::env::args_os().nth(1) {
        Some(path) => Manifest::load(Path::new(&path)),
        None => Manifest::parse("Vela.toml", BROKEN),
    };
    match manifest {
        Ok(manifest) => {
            println!("{manifest:#?}");
            for unsupported in manifest.not_yet_deployable() {
                println!("not yet deployable: {unsupported}");
            }
        }
        Err(error) => println!("{}", error.report()),
    }
}
