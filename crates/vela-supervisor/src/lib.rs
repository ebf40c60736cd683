//! Start, stop, watch and adopt operating-system processes that outlive the program that started
//! them.
//!
//! A [`Supervisor`] starts an *instance*, a program and all its descendants, from an
//! [`InstanceSpec`]: its arguments, its whole environment, its user, its log. It reports why a
//! program could not be executed, stops the whole tree, and tells of each end, without polling.
//! There are two:
//!
//! - [`ShimSupervisor`] puts each instance under a *shim*, a small process of its own, which your
//!   program provides by calling [`run_shim`] from a hidden subcommand. Instances outlive your
//!   program, and the next `ShimSupervisor` on the same run directory adopts them. If the shim
//!   is killed, its instance dies with it.
//! - [`InProcess`] keeps instances under threads; they end with your program.
//!
//! Beside it are what a program that runs servers needs: [`Ports`] to reserve, [`listener_of`] to
//! find out who really took one, [`users`] to run as, [`logs`] to read, and [`Backoff`] for what
//! keeps crashing.
//!
//! Linux only, 5.9 or later. Under systemd, the host program's unit needs `KillMode=process`.
//!
//! ```
//! use futures::StreamExt;
//! use vela_supervisor::{
//!     ExitStatus, InProcess, InstanceEvent, InstanceId, InstanceSpec, LogSpec, Supervisor, logs,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let log = dir.path().join("hello.log");
//! let supervisor = InProcess::new();
//! let mut events = supervisor.watch();
//!
//! supervisor
//!     .start(InstanceSpec {
//!         args: vec!["-c".into(), "echo hello; exit 3".into()],
//!         log: LogSpec::new(&log),
//!         ..InstanceSpec::new(InstanceId::random(), "/bin/sh")
//!     })
//!     .await?;
//!
//! let Some(InstanceEvent::Exited { exit, .. }) = events.next().await else { panic!() };
//! assert_eq!(exit.status, ExitStatus::Code(3));
//! assert_eq!(logs::tail(&log, 10)?[0].text, "hello");
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod adopt;
mod attend;
mod backoff;
mod child;
mod connection;
mod error;
mod exit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod in_process;
mod instance;
mod keeper;
mod kernel;
mod listener;
pub mod logs;
mod orders;
mod peer;
mod ports;
mod process;
mod registry;
mod run_dir;
mod shim;
mod shim_supervisor;
mod signal;
mod spares;
mod start;
mod supervisor;
#[cfg(feature = "test-util")]
pub mod test_util;
mod tree;
mod unix_listener;
pub mod users;
mod wire;

pub use adopt::Skipped;
pub use backoff::Backoff;
pub use error::SupervisorError;
pub use exit::{Exit, ExitStatus};
pub use in_process::InProcess;
pub use instance::{
    INSTANCE_VARIABLE, Instance, InstanceId, InstanceSpec, InvalidInstanceId, LogSpec,
};
pub use listener::{PortOwner, listener_of, listening_on};
pub use ports::{PortLease, Ports, PortsError};
pub use shim::run_shim;
pub use shim_supervisor::{ShimCommand, ShimSupervisor};
pub use signal::{Signal, Stop, UnknownSignal};
pub use supervisor::{InstanceEvent, Supervisor};
pub use unix_listener::unix_listener_of;
pub use users::{User, UserError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
