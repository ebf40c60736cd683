use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::document::{self, Lines};
use crate::error::ManifestError;
use crate::section::Section;
use crate::server::backup::BackupSection;
use crate::server::path::{absolute, socket};
use crate::server::proxy::ProxySection;
use crate::server::services::ServicesSection;
use crate::server::tls::TlsSection;
use crate::source::read_file;
use crate::unsupported::Unsupported;
use crate::value::Value;

/// A valid `server.toml`. Where a default depends on who the daemon runs as, the field is an `Option`.
///
/// ```
/// use vela_manifest::ServerConfig;
///
/// let config = ServerConfig::parse("server.toml", "[proxy]\nhttp_port = 8080")?;
/// assert_eq!(config.proxy.http_port, Some(8080));
/// assert_eq!(config.apps.ports(), 10_000..=20_000);
/// # Ok::<(), vela_manifest::ManifestError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ServerConfig {
    /// `data_dir`: where apps, releases and state live.
    pub data_dir: Option<PathBuf>,
    /// `socket`: where the control API listens.
    pub socket: Option<PathBuf>,
    /// `[proxy]`.
    pub proxy: ProxySection,
    /// `[apps]`.
    pub apps: AppsSection,
    /// `[services]`.
    pub services: ServicesSection,
    /// `[tls]`.
    pub tls: Option<TlsSection>,
    /// `[backup]`.
    pub backup: Option<BackupSection>,
    lines: Lines,
}

impl ServerConfig {
    /// Reads and checks a file of at most 1 MiB. The error names every problem of the file.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = read_file(path)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Checks a text; `file_name` is what errors call it.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, ManifestError> {
        let (mut config, lines) = document::read(file_name, text, |root| Some(Self::read(root)))?;
        config.lines = lines;
        Ok(config)
    }

    pub(super) fn read(mut root: Section<'_>) -> Self {
        Self {
            data_dir: root.read("data_dir", absolute),
            socket: root.read("socket", socket),
            proxy: ProxySection::read(root.section("proxy")),
            apps: AppsSection::read(root.section("apps")),
            services: ServicesSection::read(root.section("services")),
            tls: root.optional_section("tls").map(TlsSection::read),
            backup: root.optional_section("backup").map(BackupSection::read),
            lines: Lines::default(),
        }
    }

    /// The keys that this version of Vela understands but can't act on yet, in the order of the file.
    pub fn not_yet_supported(&self) -> Vec<Unsupported> {
        let mut found = Vec::new();
        if self.backup.is_some() {
            found.push(self.lines.unsupported("backup", "backups are not made yet"));
        }
        found.sort_by_key(|unsupported| unsupported.line);
        found
    }
}

/// `[apps]`: what holds for every app of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppsSection {
    /// `isolate`: whether each app runs as a user of its own. If unset, they do when the daemon is root.
    pub isolate: Option<bool>,
    /// `first_port`: the lowest port that an instance may get.
    pub first_port: u16,
    /// `last_port`: the highest.
    pub last_port: u16,
}

impl AppsSection {
    /// The ports that instances may get.
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.first_port..=self.last_port
    }

    fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let mut port = |key| section.read(key, |value| value.integer(1..=u16::MAX));
        let first = port("first_port");
        let last = port("last_port");
        let apps = Self {
            isolate: section.read("isolate", Value::boolean),
            first_port: first.unwrap_or(default.first_port),
            last_port: last.unwrap_or(default.last_port),
        };
        if apps.first_port > apps.last_port {
            let key = if last.is_some() {
                "last_port"
            } else {
                "first_port"
            };
            let (first, last) = (apps.first_port, apps.last_port);
            section.report_key(
                key,
                format!("there is no port from {first} to {last}"),
                None,
            );
        }
        apps
    }
}

impl Default for AppsSection {
    fn default() -> Self {
        Self {
            isolate: None,
            first_port: 10_000,
            last_port: 20_000,
        }
    }
}
