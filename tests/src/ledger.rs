//! An app whose work is to lose nothing: each entry is a row in Postgres and a message in JetStream, acknowledged when
//! both servers have said that they keep it. `src/bin/ledger` is the app, this is what it and its tests share.

mod client;
mod messages;
mod rows;

pub use client::{Entries, Ledger, Whoami};
pub use messages::Messages;
pub use rows::Rows;

use std::path::PathBuf;

use crate::release;
use crate::{Artifact, Release};

/// Why an entry could not be made or read.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Artifact {
    /// The ledger at `<app>.localhost`, with a Postgres and a JetStream. `deploy` holds more lines for `[deploy]`.
    pub fn ledger(app: &str, deploy: &str) -> Artifact {
        let manifest = format!(
            "[app]\nname = \"{app}\"\ndomain = \"{app}.localhost\"\n\n[deploy]\nbinary = \"run\"\n{deploy}\n\n\
             [services.postgres]\nversion = \"15\"\n\n[services.nats]\njetstream = true\n"
        );
        let script = format!("exec '{}'", program().display());
        Artifact::of(app, &manifest, &Release::script(&manifest, &script))
    }
}

/// The app's program, built with the tests.
pub fn program() -> PathBuf {
    release::program().with_file_name("ledger")
}
