//! For tests of whoever uses or implements a [`ReleaseStore`](crate::ReleaseStore): a wrapper
//! that fails when told to, and the suite that every implementation passes.

mod conformance;
mod fail_at;

pub use conformance::conformance;
pub use fail_at::{FailAt, StoreCall, When};
