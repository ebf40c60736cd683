//! One file a command: it asks the daemon and hands the answer to the renderer.

pub(crate) mod apps;
pub(crate) mod cancel;
pub(crate) mod certs;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod logs;
pub(crate) mod maintenance;
pub(crate) mod releases;
pub(crate) mod remove;
pub(crate) mod restart;
pub(crate) mod rollback;
pub(crate) mod secret;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod stop;

mod artifact;
mod follow;
mod git;
mod git_source;
mod upload;
