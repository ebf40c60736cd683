use std::path::PathBuf;

use crate::section::Section;
use crate::server::path::absolute;
use crate::value::Value;

/// `[tls]`: where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TlsSection {
    /// `acme_email`: who the certificate authority writes to.
    pub acme_email: Option<String>,
    /// `staging`: Let's Encrypt's staging environment, whose certificates no browser trusts.
    pub staging: bool,
    /// `directory`: the URL of another ACME directory.
    pub directory: Option<String>,
    /// `cert`: a certificate chain, as a PEM file; set together with `key`.
    pub cert: Option<PathBuf>,
    /// `key`: its private key, as a PEM file.
    pub key: Option<PathBuf>,
    /// `client_ca`: the authority that clients' certificates must be from, as a PEM file.
    pub client_ca: Option<PathBuf>,
}

impl TlsSection {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let tls = Self {
            acme_email: section.read("acme_email", email),
            staging: section.read("staging", Value::boolean).unwrap_or(false),
            directory: section.read("directory", directory),
            cert: section.read("cert", absolute),
            key: section.read("key", absolute),
            client_ca: section.read("client_ca", absolute),
        };
        if tls.staging && section.has("directory") {
            section.report_key(
                "staging",
                "`staging` beside `directory`",
                Some("leave one of them out"),
            );
        }
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            if section.has(one) && !section.has(other) {
                section.report_key(one, format!("`{one}` without `{other}`"), None);
            }
        }
        tls
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
