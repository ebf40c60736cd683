//! The parts of Vela's benchmarks: a daemon and an SSH server of their own, a client that waits for the first answer,
//! and medians. The benchmarks are the programs in `src/bin`; the README says how to run them and what they mean.
#![forbid(unsafe_code)]

mod app;
mod backend;
mod contender;
mod daemon;
mod descriptors;
mod first_answer;
mod goals;
mod h2load;
mod handshakes;
mod load;
mod operation;
mod own_tools;
mod process_tree;
mod row;
mod samples;
mod ssh_server;
mod tls_pair;

pub use app::{App, direct_start};
pub use backend::serve as serve_backend;
pub use contender::{Contender, Kind, free_address, wait_for};
pub use daemon::{Daemon, HOST};
pub use descriptors::allow_descriptors;
pub use first_answer::first_answer;
pub use goals::{Goals, Limit};
pub use h2load::h2load;
pub use handshakes::handshakes;
pub use load::{Load, Seen, Wrk};
pub use operation::{Operation, Terminal};
pub use own_tools::{nats_by_hand, postgres_by_hand};
pub use process_tree::ProcessTree;
pub use row::{Results, Row};
pub use samples::{Samples, table};
pub use ssh_server::SshServer;
pub use tls_pair::TlsPair;

/// Why a benchmark could not go on. Nothing handles it: it is shown, and the benchmark ends.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
