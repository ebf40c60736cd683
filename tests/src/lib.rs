//! What the end-to-end tests share.
//!
//! A [`World`] is a real daemon in a directory of its own; the tests drive it with the real `vela` command and ask its
//! API. Everything is on 127.0.0.1 and ends with the world.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

mod account;
mod artifact;
mod command;
mod deploy;
mod footprint;
mod front;
mod git;
mod http;
pub mod ledger;
mod long;
mod process;
mod relay;
mod release;
mod sshd;
mod verdict;
mod world;

pub use account::Account;
pub use artifact::Artifact;
pub use command::Output;
pub use deploy::Deploy;
pub use footprint::Footprint;
pub use front::Front;
pub use git::{commit_all, git};
pub use http::{get, try_get, try_post};
pub use long::{Ended, Long};
pub use process::{children_of, is_alive, kill, processes_of, shims_of};
pub use relay::Relay;
pub use release::{MANIFEST, Release};
pub use sshd::{Sshd, SshdOptions, keygen};
pub use verdict::{expect_no_failure, summary};
pub use world::{Options, World};
