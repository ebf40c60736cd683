use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One certificate of the server's, there or to come: a line of `vela certs list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Where it comes from.
    pub origin: CertificateOrigin,
    /// What it is known by: the file of one that is given, the first name of one that is obtained.
    pub id: String,
    /// The apps whose hosts are served with it, or that it is to be for.
    pub apps: Vec<String>,
    /// The names that it is for, or is to be for.
    pub names: Vec<String>,
    /// What it says of itself; nothing while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateDetails>,
    /// How it stands.
    #[serde(flatten)]
    pub state: CertificateState,
    /// What an operator should know: that clients refuse it, that its renewal fails.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateDetails {
    /// Who signed it.
    pub issuer: String,
    /// Its serial number: bytes in hexadecimal with colons between them.
    pub serial: String,
    /// The kind of its key: `ECDSA P-256`.
    pub key: String,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// How many whole days that is from now; negative once it has expired.
    pub days_left: i64,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CertificateOrigin {
    /// Obtained and renewed by the daemon.
    Acme,
    /// Given by the operator, as files.
    Static,
    /// Made by the daemon for hosts that have no other; nothing trusts it.
    SelfSigned,
}

impl CertificateOrigin {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            CertificateOrigin::Acme => "acme",
            CertificateOrigin::Static => "static",
            CertificateOrigin::SelfSigned => "self-signed",
        }
    }
}

/// How a certificate stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CertificateState {
    /// It is valid.
    Valid {
        /// When it is renewed, if the daemon does that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renewal_at: Option<Timestamp>,
    },
    /// It is valid no longer, or not yet.
    Invalid,
    /// The first attempt to get it is under way.
    Obtaining,
    /// It could not be obtained or renewed. An earlier one serves for as long as it is valid.
    Failing {
        /// Why.
        error: String,
        /// What the operator can do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// How often in a row.
        failures: u32,
        /// When it is tried again.
        retry_at: Timestamp,
    },
    /// Its files as they are now are refused. An earlier one serves, if there was one.
    Refused {
        /// Why.
        error: String,
    },
}

impl CertificateState {
    /// The name on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            CertificateState::Valid { .. } => "valid",
            CertificateState::Invalid => "invalid",
            CertificateState::Obtaining => "obtaining",
            CertificateState::Failing { .. } => "failing",
            CertificateState::Refused { .. } => "refused",
        }
    }
}

/// How an app's hosts are served over HTTPS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppTls {
    /// When the first of the certificates of its hosts expires; nothing where none of them has one.
    pub not_after: Option<Timestamp>,
    /// How many whole days that is from now; negative once it has expired.
    pub days_left: Option<i64>,
    /// What its operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_flat_enough_to_be_searched() {
        let status = CertificateStatus {
            origin: CertificateOrigin::SelfSigned,
            id: "self-signed".into(),
            apps: vec![],
            names: vec![],
            certificate: None,
            state: CertificateState::Valid { renewal_at: None },
            warnings: vec![],
        };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["origin"], status.origin.as_str());
        assert_eq!(json["state"], status.state.as_str());
        let read: CertificateStatus = serde_json::from_value(json).unwrap();
        assert_eq!(read, status);
    }
}
