//! Is it up yet? One-shot health probes, and the policy that repeats them.
//!
//! A [`Probe`] makes **one** attempt against a [`Target`] and says why it failed. There are three:
//!
//! - [`HttpProbe`]: a request on a fresh connection, and the status that is expected;
//! - [`TcpProbe`]: the port, or Unix socket, accepts a connection;
//! - [`ExecProbe`]: a command that exits with status 0, run by an [`Exec`] (here [`ShellExec`]).
//!
//! A [`Policy`] repeats a probe until it succeeds, the attempts are used up, or the instance
//! exits. Attempts come milliseconds apart at first, so that a program that is up after 30 ms is
//! seen after little more, and then at the pace that was asked for.
//!
//! Probes have no timeout of their own: whoever repeats them decides how long one may take.
//! All of them are cancel safe: dropping the future of an attempt closes its connection or kills
//! its processes, and leaves nothing behind.
//!
//! ```
//! use std::future::pending;
//! use vela_health::{HttpProbe, Policy, Target, Unhealthy};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let addr = server.local_addr()?;
//! # tokio::spawn(async move {
//! #     while let Ok((mut stream, _)) = server.accept().await {
//! #         let mut request = [0; 1024];
//! #         stream.read(&mut request).await.unwrap();
//! #         stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nup\n").await.unwrap();
//! #     }
//! # });
//! let probe = HttpProbe::new("/health")?;
//! let exited = pending::<i32>(); // resolves when the process ends
//!
//! let outcome = Policy::default()
//!     .wait(&probe, &Target::new(addr), exited, |attempt| {
//!         println!("{:?}: {:?}", attempt.elapsed, attempt.result);
//!     })
//!     .await;
//!
//! match outcome {
//!     Ok(healthy) => println!("healthy after {:?}", healthy.after),
//!     Err(Unhealthy::Exited(code)) => panic!("exited with {code}"),
//!     Err(error) => panic!("{error}"),
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod address;
mod connect;
mod error;
mod exec_probe;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http_exchange;
mod http_probe;
mod outcome;
mod policy;
mod printable;
mod probe;
mod redirect;
#[cfg(target_os = "linux")]
mod shell_exec;
mod status_match;
mod target;
mod tcp_probe;
#[cfg(feature = "test-util")]
pub mod test_util;

#[cfg(target_os = "linux")]
pub use crate::shell_exec::ShellExec;
pub use crate::{
    address::Address,
    error::ProbeError,
    exec_probe::{Exec, ExecOutput, ExecProbe},
    http_probe::{HttpProbe, InvalidHttpProbe},
    outcome::{Attempt, Healthy, Unhealthy},
    policy::{Eager, Policy},
    probe::Probe,
    status_match::StatusMatch,
    target::Target,
    tcp_probe::TcpProbe,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
