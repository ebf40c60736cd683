//! The proxy on real sockets, between clients and upstreams that send what they are told.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

mod access_log;
mod balance;
mod conformance;
mod descriptors;
mod expectations;
mod http;
mod leaving;
mod metrics;
mod pages;
mod responses;
mod room;
mod routing;
mod shutdown;
mod stalls;
mod switch;
mod upstreams;
mod world;
