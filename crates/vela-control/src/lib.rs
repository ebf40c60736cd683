//! The control plane of a Vela daemon: an HTTP API on a Unix socket, and a client that reaches it on this machine or
//! over SSH.
//!
//! # The client (feature `client`, the default)
//!
//! A [`ServerAddress`] names a daemon, a [`Transport`] opens byte streams to its socket, and a [`Client`] speaks the
//! API over them. What takes time answers with an [`EventStream`]: it survives a lost connection, for an operation
//! belongs to the daemon.
//!
//! ```
//! use std::sync::Arc;
//! use vela_control::{Client, NeverAsk, ServerAddress, SshOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // `root@example.com:2222` would go over SSH.
//! let server: ServerAddress = "unix:///nowhere/vela.sock".parse()?;
//! let client = Client::new(server.transport(SshOptions::default(), Arc::new(NeverAsk)));
//!
//! match client.apps().await {
//!     Ok(apps) => println!("{} apps", apps.len()),
//!     Err(error) if error.is_unreachable() => {
//!         assert!(error.hint().is_some_and(|hint| hint.contains("vela")));
//!     }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ## SSH
//!
//! SSH is the only remote door. [`Ssh2Transport`] makes one session and opens all streams as channels of it:
//!
//! 1. `ssh -G` says what the user's configuration has for the host, while a TCP connection is tried already.
//! 2. The server's key is judged by the user's `known_hosts`: hashed names, wildcards, negation, ports and `@revoked`
//!    included. A changed or revoked key is refused; an unknown one is a question to [`Ask`], never taken silently.
//! 3. Keys of the options, of the agent and of the configuration are tried in that order.
//! 4. The daemon's socket is reached by forwarding. Where that is not to be had, a remote `vela join`, then
//!    `sudo -n vela join`, takes its place; if both fail, a [`TransportError`] tells a server without vela, one whose
//!    daemon does not run, a user without permission, and forbidden forwarding apart.
//!
//! One thread moves the bytes of all channels, none of which waits for another. What libssh2 cannot do (certificates,
//! security keys, passwords) the system's `ssh` can: [`SystemSshTransport`], or `VELA_SSH=system`.
//!
//! # The server (feature `server`)
//!
//! `bind` makes the socket, and `serve` answers on it for a `vela_deploy::Engine`:
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/version` | `ServerVersion` |
//! | `PUT`, `DELETE /v1/uploads/<uuid>` | `Upload`, nothing |
//! | `POST /v1/apps/<app>/deploys`, `rollback`, `restart`, `start` | a line for each event |
//! | `POST /v1/apps/<app>/stop`, `cancel` | `AppStatus`, nothing |
//! | `GET /v1/deploys/<uuid>/events?from=<seq>` | a line for each event |
//! | `GET /v1/apps`, `/v1/apps/<app>` | `AppStatus` |
//! | `DELETE /v1/apps/<app>?purge=<bool>` | nothing |
//! | `GET /v1/apps/<app>/releases`, `history` | a list, newest first |
//! | `GET /v1/apps/<app>/logs?lines=<n>&follow=<bool>` | a line for each line |
//! | `GET /v1/apps/<app>/build-log?release=<id>&lines=<n>` | a line for each line of a build, the last one without an id |
//! | `GET`, `PATCH /v1/apps/<app>/secrets` | `SecretNames` |
//! | `GET /v1/apps/<app>/services` | `ServiceCredentials` |
//! | `GET /v1/metrics` | OpenMetrics text |
//! | `GET /v1/certificates` | a list of `CertificateStatus` |
//! | `POST /v1/apps/<app>/certificate/renew` | `CertificateStatus` |
//! | `GET /v1/services` | a list of `ServiceStatus` |
//! | `GET /v1/services/<server>/logs?lines=<n>&follow=<bool>` | a line for each line |
//!
//! All bodies are JSON in the words of `vela-protocol`, and every error is an `ApiError`, so that
//! `curl --unix-socket /run/vela/vela.sock http://vela/v1/apps` is pleasant.
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
mod address;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(feature = "client", feature = "server"))]
mod headers;
#[cfg(feature = "client")]
mod join;
#[cfg(feature = "server")]
mod server;
mod socket_path;
#[cfg(feature = "client")]
mod ssh;
#[cfg(feature = "client")]
mod transport;
#[cfg(feature = "client")]
mod unix;

#[cfg(feature = "server")]
pub use server::{BindError, bind, serve};
pub use socket_path::default_socket;
#[cfg(feature = "client")]
pub use {
    address::{AddressError, ServerAddress},
    client::{Client, ClientError, EventStream, LogStream, Reconnecting},
    join::{JoinError, join},
    ssh::{Ask, HostKey, NeverAsk, Ssh2Transport, SshOptions, SshTarget, SystemSshTransport},
    transport::{Io, SshError, Transport, TransportError},
    unix::UnixTransport,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
