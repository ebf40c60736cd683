//! A router with no sockets, a certifier with no authority, and the tests that every one of either
//! must pass.

mod certifier_conformance;
mod conformance;
mod memory_certifier;
mod memory_router;

pub use certifier_conformance::check_certifier;
pub use conformance::{check_park, check_router};
pub use memory_certifier::MemoryCertifier;
pub use memory_router::MemoryRouter;
