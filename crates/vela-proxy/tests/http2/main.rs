//! HTTP/2 on real sockets over TLS: clients that behave, by the crate `h2`, and frames written by
//! hand for those that do not.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

#[path = "../proxy/world/backend.rs"]
#[expect(dead_code, reason = "the tests of HTTP/1.1 use the rest")]
mod backend;
mod bodies;
mod client;
mod conformance;
mod floods;
mod frames;
mod injection;
mod mapping;
mod process;
mod raw;
mod recorder;
mod records;
mod shutdown;
mod switch;
#[path = "../tls/world.rs"]
#[expect(dead_code, reason = "the tests of TLS use the rest")]
mod tls;
mod tunnels;
mod world;

use world::LONG;
