//! `server.toml`.

mod backup;
mod config;
mod path;
mod tls;

pub use backup::{BackupInclude, BackupSection, Destination, Schedule};
pub use config::{AppsSection, ProxySection, ServerConfig};
pub use tls::{CertificatePair, TlsSection};
