//! Scripted doubles, and the suites that every [`Probe`](crate::Probe) and
//! [`Exec`](crate::Exec) passes. Behind the feature `test-util`.

mod conformance;
mod scripted;

pub use self::{
    conformance::{conformance, exec_conformance},
    scripted::{ScriptedProbe, Step},
};
