//! An in-memory [`Provisioner`](crate::Provisioner), and the suites that every one and every
//! [`Runner`](crate::Runner) passes. Behind the feature `test-util`.

mod conformance;
mod memory;
mod runner_conformance;

pub use self::{
    conformance::conformance,
    memory::{Call, MemoryProvisioner},
    runner_conformance::runner_conformance,
};
