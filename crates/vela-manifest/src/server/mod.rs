//! `server.toml`.

mod backup;
mod config;
mod path;
mod services;
mod tls;

pub use backup::{BackupInclude, BackupSection, Destination, Schedule};
pub use config::{AppsSection, ProxySection, ServerConfig};
pub use services::{NatsSection, PostgresSection, ServicesSection, Sha256};
pub use tls::{CertificatePair, TlsSection};
