use std::path::PathBuf;

use crate::section::Section;
use crate::server::path::absolute;
use crate::services::version;
use crate::value::Value;

/// `[services]`: where the programs of services come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServicesSection {
    /// `[services.nats]`.
    pub nats: NatsSection,
    /// `[services.postgres]`.
    pub postgres: PostgresSection,
}

impl ServicesSection {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            nats: NatsSection::read(section.section("nats")),
            postgres: PostgresSection::read(section.section("postgres")),
        }
    }
}

/// `[services.nats]`: what is downloaded where the machine has no nats-server that fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NatsSection {
    /// `url`: of the tar.gz of a release, with `{version}` and `{arch}` in it.
    pub url: Option<String>,
    /// `version`: which release; set together with `sha256`.
    pub version: Option<String>,
    /// `sha256`: of the file, for each architecture.
    pub sha256: Option<Sha256>,
}

impl NatsSection {
    fn read(mut section: Section<'_>) -> Self {
        let nats = Self {
            url: section.read("url", url),
            version: section.read("version", version),
            sha256: section.optional_section("sha256").map(Sha256::read),
        };
        // A checksum belongs to one file: neither is of use without the other.
        for (one, other) in [("version", "sha256"), ("sha256", "version")] {
            if section.has(one) && !section.has(other) {
                section.report_key(one, format!("`{one}` without `{other}`"), None);
            }
        }
        nats
    }
}

/// `services.nats.sha256`: checksums in 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sha256 {
    /// `amd64`.
    pub amd64: Option<String>,
    /// `arm64`.
    pub arm64: Option<String>,
}

impl Sha256 {
    fn read(mut section: Section<'_>) -> Self {
        Self {
            amd64: section.read("amd64", digest),
            arm64: section.read("arm64", digest),
        }
    }
}

/// `[services.postgres]`: the server's programs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PostgresSection {
    /// `programs`: a directory that has `<major version>/bin` in it, looked into before the usual ones.
    pub programs: Option<PathBuf>,
}

impl PostgresSection {
    fn read(mut section: Section<'_>) -> Self {
        Self {
            programs: section.read("programs", absolute),
        }
    }
}

fn url(value: &Value<'_>) -> Option<String> {
    let url = value.string()?;
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || url.contains(|c: char| !c.is_ascii_graphic()) {
        value.report("expected a URL that starts with `https://`", None);
        return None;
    }
    let unknown = url.replace("{version}", "").replace("{arch}", "");
    if unknown.contains(['{', '}']) {
        value.report(
            "an unknown variable in the URL",
            Some("`{version}` and `{arch}` are replaced; nothing else is in braces"),
        );
        return None;
    }
    Some(url.to_owned())
}

fn digest(value: &Value<'_>) -> Option<String> {
    let digest = value.string()?;
    if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        value.report("not a SHA-256 checksum", Some("64 hexadecimal digits"));
        return None;
    }
    Some(digest.to_ascii_lowercase())
}
