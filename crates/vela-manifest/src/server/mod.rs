//! `server.toml`.

mod access_log;
mod backup;
mod config;
#[cfg(test)]
mod documented;
mod path;
mod proxy;
mod proxy_limits;
mod proxy_timeouts;
mod services;
mod tls;

pub use access_log::AccessLogSection;
pub use backup::{BackupInclude, BackupSection, Destination, Schedule};
pub use config::{AppsSection, ServerConfig};
pub use proxy::ProxySection;
pub use proxy_limits::ProxyLimits;
pub use proxy_timeouts::ProxyTimeouts;
pub use services::{NatsSection, PostgresSection, ServicesSection, Sha256};
pub use tls::{CertificatePair, TlsSection};
