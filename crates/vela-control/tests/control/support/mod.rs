//! A real SSH server on 127.0.0.1, a daemon that says what a test wants, and a network that can be cut.

mod cut;
mod daemon;
mod sshd;

pub(crate) use cut::Cut;
pub(crate) use daemon::StubDaemon;
pub(crate) use sshd::{Sshd, keygen};
