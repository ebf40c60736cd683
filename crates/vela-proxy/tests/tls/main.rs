//! TLS between the proxy and clients that others wrote: curl and openssl.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

mod certificates;
mod clients;
mod connections;
mod plain;
mod world;
