use std::path::PathBuf;
use std::time::Duration;

use crate::section::Section;
use crate::server::path::absolute;
use crate::value::{Found, Value};

/// `[tls]`: where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSection {
    /// `acme_email`: who the certificate authority writes to. With it, certificates are obtained for the hosts of
    /// all apps.
    pub acme_email: Option<String>,
    /// `staging`: Let's Encrypt's staging environment, whose certificates no browser trusts.
    pub staging: bool,
    /// `directory`: the URL of another ACME directory.
    pub directory: Option<String>,
    /// `directory_ca`: the authority that the directory's own certificate is from, as a PEM file, where it is not one
    /// of the system's.
    pub directory_ca: Option<PathBuf>,
    /// `eab_kid`: what the certificate authority calls a customer's account of its own; set together with `eab_key`.
    pub eab_kid: Option<String>,
    /// `eab_key`: a file with the key to that, as the authority gives it: in base64url.
    pub eab_key: Option<PathBuf>,
    /// `dns_hook`: a line for the shell that sets and removes TXT records, for names with a `*`.
    pub dns_hook: Option<String>,
    /// `cert` with `key`, and each of `[[tls.certificates]]`.
    pub certificates: Vec<CertificatePair>,
    /// `client_ca`: the authority that clients' certificates must be from, as a PEM file.
    pub client_ca: Option<PathBuf>,
    /// `redirect`: whether HTTP is redirected to HTTPS, for hosts with a certificate.
    pub redirect: bool,
    /// `hsts`: for how long browsers come by HTTPS alone; `true` is a year.
    pub hsts: Option<Duration>,
}

/// A certificate that is given as two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificatePair {
    /// `cert`: the chain, the server's own certificate first.
    pub cert: PathBuf,
    /// `key`: the private key.
    pub key: PathBuf,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            acme_email: None,
            staging: false,
            directory: None,
            directory_ca: None,
            eab_kid: None,
            eab_key: None,
            dns_hook: None,
            certificates: Vec::new(),
            client_ca: None,
            redirect: true,
            hsts: None,
        }
    }
}

impl TlsSection {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let cert = section.read("cert", absolute);
        let key = section.read("key", absolute);
        let more = section.read("certificates", certificates);
        let first = cert
            .zip(key)
            .map(|(cert, key)| CertificatePair { cert, key });
        let tls = Self {
            acme_email: section.read("acme_email", email),
            staging: section.read("staging", Value::boolean).unwrap_or(false),
            directory: section.read("directory", directory),
            directory_ca: section.read("directory_ca", absolute),
            eab_kid: section.read("eab_kid", Value::string).map(str::to_owned),
            eab_key: section.read("eab_key", absolute),
            dns_hook: section.read("dns_hook", Value::command),
            certificates: first
                .into_iter()
                .chain(more.into_iter().flatten())
                .collect(),
            client_ca: section.read("client_ca", absolute),
            redirect: section.read("redirect", Value::boolean).unwrap_or(true),
            hsts: section.read("hsts", hsts).flatten(),
        };
        if tls.staging && section.has("directory") {
            section.report_key(
                "staging",
                "`staging` beside `directory`",
                Some("leave one of them out"),
            );
        }
        for (one, other) in [
            ("cert", "key"),
            ("key", "cert"),
            ("eab_kid", "eab_key"),
            ("eab_key", "eab_kid"),
            ("directory_ca", "directory"),
            ("staging", "acme_email"),
            ("directory", "acme_email"),
            ("dns_hook", "acme_email"),
            ("eab_kid", "acme_email"),
        ] {
            if section.has(one) && !section.has(other) {
                section.report_key(one, format!("`{one}` without `{other}`"), None);
            }
        }
        tls
    }
}

fn certificates(value: &Value<'_>) -> Option<Vec<CertificatePair>> {
    let pairs = value.items()?.into_iter().filter_map(|item| {
        let mut section = item.section()?;
        let cert = section.required("cert", r#"cert = "/etc/ssl/shop.pem""#);
        let key = section.required("key", r#"key = "/etc/ssl/shop.key""#);
        Some(CertificatePair {
            cert: absolute(&cert?)?,
            key: absolute(&key?)?,
        })
    });
    Some(pairs.collect())
}

fn hsts(value: &Value<'_>) -> Option<Option<Duration>> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    match value.found() {
        Found::Boolean => Some(value.boolean()?.then_some(YEAR)),
        _ => Some(Some(value.positive_duration()?)),
    }
}

fn email(value: &Value<'_>) -> Option<String> {
    let email = value.string()?;
    let plausible = email
        .split_once('@')
        .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'));
    if !plausible || email.contains(|c: char| c.is_whitespace() || c.is_control()) {
        value.report("not an e-mail address", None);
        return None;
    }
    Some(email.to_owned())
}

fn directory(value: &Value<'_>) -> Option<String> {
    let url = value.string()?;
    let host = url.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || url.contains(|c: char| !c.is_ascii_graphic()) {
        value.report("expected a URL that starts with `https://`", None);
        return None;
    }
    Some(url.to_owned())
}
