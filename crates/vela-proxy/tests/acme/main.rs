//! Certificates from pebble, the authority that Let's Encrypt has made for tests. It refuses some
//! nonces, and validates from several places, as the real one does.
#![expect(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and says where"
)]

mod advice;
mod crashes;
mod failures;
mod front;
mod orders;
mod pebble;
mod world;
