//! An in-memory [`Provisioner`](crate::Provisioner), and the suite that every one passes. Behind
//! the feature `test-util`.

mod conformance;
mod memory;

pub use self::{
    conformance::conformance,
    memory::{Call, MemoryProvisioner},
};
