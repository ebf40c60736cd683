//! An HTTP reverse proxy to embed in a deployer: it switches routes between instances of an app
//! without losing a request, tells when an old instance has served its last one, and can hold
//! requests back while there is no instance at all.
//!
//! A [`Proxy`] has a table of routes. [`Router::apply`] replaces a route for all its hosts at once
//! and gives [`Replaced`]: the old upstreams, which go on with the requests that they have.
//! [`Router::drain`] takes it, waits for the last of them, and gives [`Drained`]: now the old
//! instances may be stopped. [`Park::park`] makes requests wait until the route is applied again.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//! use std::time::Duration;
//! use vela_proxy::{Proxy, ProxyConfig, RouteSpec, Router, Upstream};
//!
//! /// An app that answers with its version.
//! fn app(version: &'static str) -> std::io::Result<Upstream> {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let upstream = Upstream::new(listener.local_addr()?).tagged(version);
//!     std::thread::spawn(move || {
//!         while let Ok((mut socket, _)) = listener.accept() {
//!             socket.read(&mut [0; 4096]).ok();
//!             let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n";
//!             socket.write_all(format!("{head}{version}").as_bytes()).ok();
//!         }
//!     });
//!     Ok(upstream)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let proxy = Proxy::new(ProxyConfig::default());
//! let route = |upstream| {
//!     let hosts = vec!["shop.test".parse()?];
//!     Ok::<_, vela_proxy::InvalidHost>(RouteSpec::new("shop", hosts, vec![upstream]))
//! };
//! proxy.apply(route(app("v1")?)?).await?;
//! let serving = proxy.serve(vec![listener])?;
//!
//! let get = || {
//!     let mut socket = TcpStream::connect(addr)?;
//!     socket.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")?;
//!     std::io::read_to_string(socket)
//! };
//! assert!(get()?.ends_with("v1"));
//!
//! // Blue-green: from here on v2 gets all new requests.
//! if let Some(v1) = proxy.apply(route(app("v2")?)?).await? {
//!     assert!(proxy.drain(v1, Duration::from_secs(5).into()).await.is_complete());
//!     // Here v1 is stopped.
//! }
//! assert!(get()?.ends_with("v2"));
//! serving.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - A request pins the generation of upstreams that it found in the table, by a compare-and-swap
//!   that fails once the generation is closed; then it reads the table again. A drain closes the
//!   generation and waits for its pins. So after a complete drain no request reaches the old
//!   upstreams. `tests/pin_count_model.rs` has loom check this in all schedules with up to three
//!   preemptions.
//! - A request is sent twice only when it was handed back unsent, or when it is idempotent, has no
//!   body, and met a kept connection that the upstream was just closing. [`Stats::retries`] counts.
//! - Of several upstreams a request goes to the one of two random ones that has less in flight for
//!   its weight. One that refuses a connection, or has lost five requests in a row, is asked only
//!   after all others, until a probe of the proxy's own, 1 s later and then after pauses that double
//!   up to 30 s, can connect to it. [`Proxy::upstreams`] tells.
//! - Bodies stream both ways in constant memory. A response that an upstream cuts short is cut
//!   short for the client.
//! - What two servers could read differently is refused: no Host or two, a transfer coding other
//!   than `chunked`, more than one length, a line that ends without a CR. In absolute form the
//!   authority is the Host. Chunks are checked and written anew, without their extensions.
//! - A stream of HTTP/2 is treated as a connection of HTTP/1.1 with one request: all of this holds
//!   for it. Its head is written out in HTTP/1.1 and checked like any other. A response that is cut
//!   short ends by `RST_STREAM`, and a client that leaves is not worked for, whatever it had sent
//!   ahead. Who begins requests in order to leave them, or floods the connection with frames that
//!   ask for nothing, loses the connection; memory is bounded for each.
//! - A request takes two reads and two writes. A connection has one task and one timer, and while
//!   it is idle it has no buffer.
//! - Each worker thread has a runtime and upstream connections of its own, and reads the table
//!   without a lock.
//! - An upstream is told who asked, for what and when by `X-Forwarded-For`, `-Proto`, `-Host` and
//!   `-Port`, `Forwarded`, `X-Real-IP`, `X-Request-ID` and `X-Request-Start`. Clients are not
//!   believed about these, neither in headers nor in trailers, nor when they write `_` for `-`:
//!   they are replaced, unless a trusted proxy says so in headers.
//! - An answer to a request whose body nobody wants arrives: the connection is closed for writing,
//!   and what still comes is discarded for a second or 256 KiB.
//! - A request ends when its response and its body have. An upstream that answers early is pinned
//!   until it has been sent the rest.
//! - HTTPS is a [`Listener`] with a [`tls::Tls`], which chooses certificates by name from a store
//!   that may change at any time, and by itself resumes sessions and limits handshakes. [`acme`]
//!   fills that store.
//!
//! The feature `test-util` adds `test_util`: a router and a certifier in memory, and the tests that
//! an implementation of [`Router`], [`Park`] or [`acme::Certifier`] must pass.
#![forbid(unsafe_code)]

mod accept;
mod access_log;
pub mod acme;
mod address;
mod admission;
mod balancer;
mod buffer;
mod call;
mod chunks;
mod claims;
mod client;
mod client_stream;
mod config;
mod crew;
mod curfew;
mod decision;
mod departure;
mod dial;
mod entrance;
mod error_pages;
mod exchange;
mod failure;
mod field;
mod flow;
mod forwarded;
mod forwarded_field;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod generation;
mod handshake;
mod head_end;
mod header_name;
mod health;
mod host;
mod host_pattern;
mod http2;
mod in_flight;
mod lines;
mod lingering;
mod listener;
mod log_entry;
mod log_file;
mod metrics;
mod network;
mod node;
mod page;
mod page_template;
mod parking;
mod path_prefix;
mod patience;
mod peer;
mod pin_count;
mod pool;
mod probe;
mod proxy;
mod record;
mod refusal;
mod request_head;
mod request_id;
mod response_head;
mod room;
mod route;
mod route_options;
mod route_table;
mod router;
#[cfg(target_os = "linux")]
mod seats;
mod serving;
mod stats;
mod stop;
mod tally;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
pub mod tls;
mod tunnel;
mod turnstile;
mod upstream_status;
mod upstream_stream;
mod visit;
mod wire;
mod worker;

/// What `pin_count` is built on: `tests/pin_count_model.rs` puts loom's atomics in its place.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
}

pub use access_log::{AccessLog, AccessLogError, Rotation};
pub use address::Address;
pub use config::{Limits, ProxyConfig, Timeouts};
pub use error_pages::{ErrorPages, ErrorPagesError};
pub use header_name::{HeaderName, InvalidHeaderName};
pub use host::{Host, InvalidHost};
pub use host_pattern::HostPattern;
pub use listener::Listener;
pub use metrics::Metrics;
pub use network::{InvalidNetwork, Network};
pub use path_prefix::{InvalidPath, PathPrefix};
pub use proxy::Proxy;
pub use route::{RouteId, RouteSpec, Upstream};
pub use route_options::{Maintenance, RouteOptions};
pub use router::{
    DrainLimits, Drained, Park, ParkLimits, Replaced, RouteError, Router, StreamDrain,
};
pub use serving::Serving;
pub use stats::Stats;
pub use upstream_status::UpstreamStatus;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
