//! The `vela` command: arguments, output, exit codes, signals, and the wiring of `vela serve`.
//!
//! There is no policy here. What a deploy does is in `vela-deploy`, how a daemon is reached in `vela-control`; this crate
//! turns a command line into their calls and their events into lines. The whole program is [`run`]:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     vela_cli::run()
//! }
//! ```
//!
//! What other programs may use of it is [`demo`]: the app that the demo and the end-to-end tests deploy, and the load
//! generator that counts each failed request.
//!
//! The daemon and what comes with it (`serve`, `setup`, `demo`) exist on Linux only; a laptop of another kind has the client.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod demo;

#[cfg(target_os = "linux")]
mod accounts;
mod args;
mod commands;
mod connection;
mod context;
mod exit;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod interrupt;
mod log;
mod render;
mod run;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod setup;

pub use run::run;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
