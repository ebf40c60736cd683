use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::app::App;
use crate::build::Build;
use crate::deploy::Deploy;
use crate::document::{self, Lines};
use crate::env;
use crate::error::ManifestError;
use crate::proxy::AppProxy;
use crate::resources::Resources;
use crate::services::Services;
use crate::source::read_file;
use crate::strategy::Strategy;
use crate::template::Template;
use crate::unsupported::Unsupported;

/// A valid `Vela.toml`.
#[derive(Clone)]
pub struct Manifest {
    /// `[app]`.
    pub app: App,
    /// `[deploy]`.
    pub deploy: Deploy,
    /// `[proxy]`.
    pub proxy: AppProxy,
    /// `[env]`: the app's environment beside what Vela sets.
    pub env: BTreeMap<String, Template>,
    /// `[resources]`.
    pub resources: Resources,
    /// `[services]`.
    pub services: Services,
    /// `[build]`.
    pub build: Option<Build>,
    source: String,
    lines: Lines,
}

impl Manifest {
    /// Reads and checks a file of at most 1 MiB. The error names all problems of the file at once.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = read_file(path)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Checks a text; `file_name` is what errors call it.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, ManifestError> {
        let (mut manifest, lines) = document::read(file_name, text, |mut root| {
            let app = App::read(root.section("app"));
            let deploy = Deploy::read(root.section("deploy"), app.as_ref());
            let proxy = AppProxy::read(root.section("proxy"), app.as_ref());
            Some(Self {
                proxy,
                env: env::read(root.section("env"), app.as_ref()),
                resources: Resources::read(root.section("resources")),
                services: Services::read(root.section("services")),
                build: root.optional_section("build").map(Build::read),
                source: text.to_owned(),
                lines: Lines::default(),
                app: app?,
                deploy: deploy?,
            })
        })?;
        manifest.lines = lines;
        Ok(manifest)
    }

    /// The text it was read from, unchanged: what a server is sent, and keeps with the release.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The keys that this version of Vela understands but can't act on yet, in the order of the file.
    pub fn not_yet_deployable(&self) -> Vec<Unsupported> {
        let mut found = Vec::new();
        let mut add = |key: &str, why: &str| found.push(self.lines.unsupported(key, why));
        match self.deploy.strategy {
            Strategy::BlueGreen | Strategy::Sequential => {}
            Strategy::Rolling | Strategy::Canary | Strategy::Immediate => {
                add(
                    "deploy.strategy",
                    "only `blue-green` and `sequential` exist yet",
                );
            }
        }
        if self.deploy.instances != 1 {
            add("deploy.instances", "an app runs as one instance only, yet");
        }
        if self.resources.memory.is_some() {
            add("resources.memory", "limits are not enforced yet");
        }
        if self.resources.cpu_weight.is_some() {
            add("resources.cpu_weight", "weights are not enforced yet");
        }
        found.sort_by_key(|unsupported| unsupported.line);
        found
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The source is left out: what a user wrote into `[env]` is nobody's to log.
        f.debug_struct("Manifest")
            .field("app", &self.app)
            .field("deploy", &self.deploy)
            .field("proxy", &self.proxy)
            .field("env", &self.env)
            .field("resources", &self.resources)
            .field("services", &self.services)
            .field("build", &self.build)
            .finish_non_exhaustive()
    }
}
