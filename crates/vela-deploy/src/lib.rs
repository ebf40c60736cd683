//! The zero-downtime deploy lifecycle, as a library.
//!
//! An [`Engine`] works on one data directory. It receives artifacts, unpacks them into release directories, runs hooks,
//! starts instances, waits until they are healthy, switches the route, drains and stops what was there before, and
//! takes back all of it when a step fails. What it does it does with a [`Stack`]: a plain struct of trait objects, each
//! from a crate of its own, each replaceable.
//!
//! ```
//! use std::sync::Arc;
//! use vela_deploy::{Dirs, Engine, Stack};
//! use vela_proxy::{Proxy, ProxyConfig};
//! use vela_supervisor::{InProcess, Ports};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let data_dir = dir.path();
//! let proxy = Proxy::new(ProxyConfig::default());
//! let stack = Stack::local(
//!     Dirs::new(data_dir),
//!     Arc::new(InProcess::new()), // `ShimSupervisor` lets the apps outlive this process
//!     Ports::new(10000..=20000),
//!     proxy.clone(),
//! );
//! let engine = Engine::open(stack).await?;
//! // From here on `proxy.serve(listeners)` may accept, and `engine.deploy(..)` deploys.
//! assert!(engine.apps().is_empty());
//! engine.shutdown(false).await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` deploys an app twice and rolls it back.
//!
//! # Guarantees
//!
//! - Until the commit point (the `current` link of a deploy or rollback, `desired.toml` of a restart) a failure leaves
//!   the release from before running, routed and current. After it nothing is undone.
//! - An instance is stopped only with a permit: the proof that its route was drained, or that it never had one.
//! - Everything that is promised survives `kill -9` between any two instructions: the history file of an operation
//!   names each step, on disk before the step's first effect, and [`Engine::open`] finishes or undoes what it finds.
//! - Operations of one app take turns; those of different apps never wait for each other. [`Engine::status`] never
//!   waits at all.
//! - [`resolve_env`] is the one place that an environment is made, for instances and hooks, in deploys, restarts,
//!   rollbacks and restores.
#![forbid(unsafe_code)]

mod accept;
mod actor;
mod app;
mod beam;
mod build;
mod build_logs;
mod build_run;
mod certificate_history;
mod certificates;
mod certify;
mod clock;
mod desired;
mod dirs;
mod durable;
mod elsewhere;
mod engine;
mod env;
mod error;
pub mod failpoint;
mod follow;
mod history;
mod hook;
mod hook_logs;
mod hosts;
mod journal;
mod keeper;
mod kept_logs;
mod launch;
mod listening;
mod maintenance;
mod meta;
mod open;
mod operation;
mod owner;
mod plan;
mod probe;
mod provisioners;
mod recovery;
mod removal;
mod routing;
mod secrets;
mod server_keeper;
mod service_runner;
mod service_views;
mod services;
mod shared;
mod shutdown;
mod sockets;
mod stack;
mod step_error;
mod steps;
mod summary;
mod sweep;
mod task;
mod undo;
mod uploads;

pub use clock::{Clock, SystemClock};
pub use dirs::{AppDirs, Dirs};
pub use engine::Engine;
pub use env::{EnvSources, UnsetSecret, inherited_env, resolve_env};
pub use error::{EngineError, OpenError, StateError};
pub use history::Events;
pub use maintenance::InvalidMaintenance;
pub use service_runner::ServiceRunner;
pub use stack::{DirStores, OpenStore, SameUser, Stack, SystemUsers, Users};
pub use uploads::Uploads;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
