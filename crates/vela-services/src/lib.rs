//! The services an application needs, as the environment it gets.
//!
//! A [`Provisioner`] makes sure that a service is there for an owner, and hands back
//! [`Bindings`]: the environment variables through which the owner's program finds it. It may be
//! asked again and again: [`Provisioner::ensure`] is idempotent.
//!
//! This version has one, [`ExistingPostgres`], for a database that somebody else runs: it proves
//! that the database can be reached with the credentials that were given, and changes nothing.
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
mod error;
mod existing_postgres;
mod owner_name;
mod postgres_url;
mod provisioner;
mod service_spec;
#[cfg(feature = "test-util")]
pub mod test_util;

pub use crate::{
    bindings::Bindings,
    error::ServiceError,
    existing_postgres::ExistingPostgres,
    owner_name::{InvalidOwnerName, OwnerName},
    postgres_url::InvalidPostgresUrl,
    provisioner::Provisioner,
    service_spec::ServiceSpec,
};
