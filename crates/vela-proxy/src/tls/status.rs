use std::time::SystemTime;

use super::{Details, DnsName};

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Given by the operator, as files.
    Static,
    /// Obtained and renewed by this program.
    Managed,
    /// Made by this program so that there is one at all. No client trusts it.
    SelfSigned,
}

/// A certificate that is being served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// Where it comes from.
    pub origin: Origin,
    /// What it was put under: the path of its file, say.
    pub id: String,
    /// What it is for. Empty for the self-signed one: it is for hosts that have no other.
    pub names: Vec<DnsName>,
    /// Who signed it.
    pub issuer: String,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl CertificateStatus {
    pub(super) fn new(origin: Origin, id: &str, details: &Details) -> CertificateStatus {
        CertificateStatus {
            origin,
            id: id.to_owned(),
            names: details.names.clone(),
            issuer: details.issuer.clone(),
            not_after: details.not_after,
        }
    }

    /// The whole days that it is still valid; negative once it has expired.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let days = |seconds: u64| i64::try_from(seconds / 86_400).unwrap_or(i64::MAX);
        match self.not_after.duration_since(now) {
            Ok(left) => days(left.as_secs()),
            Err(past) => -1 - days(past.duration().as_secs()),
        }
    }
}
