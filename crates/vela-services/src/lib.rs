//! The services an application needs, as the environment it gets.
//!
//! A [`Provisioner`] makes sure that a service is there for an owner, and hands back
//! [`Bindings`]: the environment variables through which the owner's program finds it. It may be
//! asked again and again: [`Provisioner::ensure`] is idempotent.
//!
//! [`ExistingPostgres`] is for a database that somebody else runs: it proves that the database can
//! be reached with the credentials that were given, and changes nothing. [`Postgres`] runs a server,
//! or uses one elsewhere as its administrator, and makes databases with a role of their own in it.
//! [`Nats`] runs a server, with an account for each owner. Servers are run by a [`Runner`].
//!
//! ```
//! use secrecy::SecretString;
//! use vela_services::{ExistingPostgres, OwnerName, Provisioner, ServiceError, ServiceSpec};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let owner: OwnerName = "my-app".parse()?;
//! // Nobody listens on port 1.
//! let url = SecretString::from("postgres://my_app:hunter2@127.0.0.1:1/my_app");
//!
//! match ExistingPostgres::new().ensure(&owner, &ServiceSpec::existing(url)).await {
//!     Ok(bindings) => assert!(bindings.contains_key("DATABASE_URL")),
//!     Err(error @ ServiceError::Unreachable { .. }) => {
//!         assert_eq!(error.to_string(), "cannot connect to `postgres` at 127.0.0.1:1");
//!         assert!(error.hint().is_some());
//!     }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod bindings;
mod children;
mod download;
mod durable;
mod error;
mod existing_postgres;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod nats;
mod owner_name;
mod password;
mod ports;
mod postgres;
mod postgres_url;
mod provisioner;
mod runner;
mod service_spec;
mod status;
#[cfg(feature = "test-util")]
pub mod test_util;

pub use crate::{
    bindings::Bindings,
    children::Children,
    download::{Download, DownloadError, InvalidDownload},
    error::ServiceError,
    existing_postgres::ExistingPostgres,
    nats::Nats,
    owner_name::{InvalidOwnerName, OwnerName},
    postgres::{Installer, Postgres},
    postgres_url::InvalidPostgresUrl,
    provisioner::Provisioner,
    runner::{
        InvalidServerName, Runner, RunnerError, ServerName, ServerSignal, ServerSpec, ServerState,
        ServerUser,
    },
    service_spec::{JetStream, ServiceSpec},
    status::{OwnerStatus, ServiceStatus},
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
