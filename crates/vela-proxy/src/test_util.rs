//! A router with no sockets, and the tests that every router must pass.

mod conformance;
mod memory_router;

pub use conformance::{check_park, check_router};
pub use memory_router::MemoryRouter;
