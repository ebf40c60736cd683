//! What an operator asks of the services: which servers there are, what they wrote, what an app was given.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use secrecy::ExposeSecret;
use vela_manifest::Template;
use vela_protocol::{LogLine, ServiceApp, ServiceCredentials, ServiceStatus};
use vela_services::ServerName;

use crate::accept::list_releases;
use crate::engine::Engine;
use crate::env::{EnvSources, render};
use crate::error::{EngineError, StateError};
use crate::meta::Meta;
use crate::services;
use crate::step_error::StepError;
use crate::task::stream as stream_of;

impl Engine {
    /// The servers of every kind of service, each with the apps that have something in it. Fast: asks no server.
    ///
    /// # Errors
    /// When the state of a kind can't be read.
    pub async fn services(&self) -> Result<Vec<ServiceStatus>, EngineError> {
        let mut all = Vec::new();
        for provisioner in &self.inner.stack.provisioners {
            let kind = provisioner.kind();
            let servers = provisioner.status().await;
            let servers = servers.map_err(|source| EngineError::Service {
                kind: kind.to_owned(),
                source: Box::new(source),
            })?;
            all.extend(servers.into_iter().map(|server| {
                ServiceStatus {
                    kind: kind.to_owned(),
                    server: server.server.to_string(),
                    version: server.version,
                    pid: server.pid,
                    restarts: server.restarts,
                    address: server.address,
                    apps: server
                        .owners
                        .into_iter()
                        .map(|owner| ServiceApp {
                            app: owner.owner.to_string(),
                            holds: owner.holds,
                            active: owner.active,
                        })
                        .collect(),
                }
            }));
        }
        Ok(all)
    }

    /// The last lines of a server's log, and with `follow` those to come. `server` is its name, or its kind where there
    /// is one server of it.
    ///
    /// # Errors
    /// When there is no such server, or several of the kind, or the log can't be read.
    pub async fn service_logs(
        &self,
        server: &str,
        lines: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, EngineError> {
        let path = self
            .inner
            .stack
            .dirs
            .service_log(&self.server(server).await?);
        lines_of(path, lines, follow)
    }

    /// The variables that the services have given to an app, as its current release asks for them: passwords among
    /// them. Changes nothing, and does not wait for an operation.
    ///
    /// # Errors
    /// When the app is unknown or has no release, or it has nothing of a service, as while it is removed.
    pub async fn credentials(&self, app: &str) -> Result<ServiceCredentials, EngineError> {
        let (name, handle) = self.existing(app)?;
        let current = list_releases(&handle).await?.current;
        let release = current.ok_or_else(|| EngineError::NoRelease {
            app: name.to_string(),
        })?;
        let dirs = self.inner.stack.dirs.app(&name);
        let manifest = Meta::read_manifest(&dirs, release)?;
        let secrets = self
            .secrets(&name)
            .read(Meta::read(&dirs, release)?.secrets)?;
        let (release, data_dir, none) = (release.to_string(), dirs.data(), BTreeMap::new());
        let sources = EnvSources {
            inherited: &self.inner.stack.inherited,
            app: &name,
            release: &release,
            instance: "",
            port: 0,
            socket: None,
            data_dir: &data_dir,
            home: None,
            manifest: &manifest.env,
            secrets: &secrets,
            services: &none,
            defaults: &BTreeMap::new(),
        };
        let fill = |name: &str, template: &Template| render(name, template, &sources);
        let asked = services::asked(&manifest.services, fill);
        let asked = asked.map_err(|unset| EngineError::UnsetSecret {
            variable: unset.variable,
            secret: unset.secret,
            app: name.to_string(),
        })?;
        let given = services::given(&self.inner.stack, &name, asked).await;
        let given = given.map_err(|error| error.of_services(&name))?;
        let exposed = given.into_iter().map(|(kind, bindings)| {
            let Some(bindings) = bindings else {
                let app = name.to_string();
                return Err(EngineError::NotProvisioned { kind, app });
            };
            let exposed = bindings
                .iter()
                .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
            Ok((kind, exposed.collect()))
        });
        Ok(ServiceCredentials {
            kinds: exposed.collect::<Result<_, _>>()?,
        })
    }

    /// A server by its name or kind.
    async fn server(&self, wanted: &str) -> Result<ServerName, EngineError> {
        let missing = || EngineError::NoSuchService {
            server: wanted.to_owned(),
        };
        let name = ServerName::parse(wanted).map_err(|_| missing())?;
        // Also one that nobody has anything in yet: it may be why a deploy failed.
        if self.inner.stack.dirs.service_log(&name).exists() {
            return Ok(name);
        }
        let mut of_kind = self.services().await?;
        of_kind.retain(|one| one.kind == wanted || one.server == wanted);
        let servers: Vec<_> = of_kind.into_iter().map(|one| one.server).collect();
        match &servers[..] {
            [] => Err(missing()),
            [server] => ServerName::parse(server).map_err(|_| missing()),
            _ => Err(EngineError::SeveralServers {
                kind: wanted.to_owned(),
                servers,
            }),
        }
    }
}

impl StepError {
    /// The error as the answer to a request about services.
    pub(crate) fn of_services(self, app: &vela_manifest::AppName) -> EngineError {
        match self {
            StepError::Service { kind, source } => EngineError::Service { kind, source },
            error => EngineError::Prepare {
                app: app.to_string(),
                source: Box::new(error),
            },
        }
    }
}

/// The last lines of a log file, and with `follow` those to come.
pub(crate) fn lines_of(
    path: std::path::PathBuf,
    lines: usize,
    follow: bool,
) -> Result<BoxStream<'static, LogLine>, EngineError> {
    let at = |source| {
        EngineError::State(StateError::Io {
            path: path.clone(),
            source,
        })
    };
    let line = |line: vela_supervisor::logs::LogLine| LogLine {
        time: line.time,
        stream: stream_of(line.stream),
        text: line.text,
    };
    if follow {
        let lines = vela_supervisor::logs::tail_and_follow(&path, lines).map_err(at)?;
        return Ok(lines
            .take_while(|line| std::future::ready(line.is_ok()))
            .filter_map(|l| std::future::ready(l.ok()))
            .map(line)
            .boxed());
    }
    let found = vela_supervisor::logs::tail(&path, lines).map_err(at)?;
    Ok(stream::iter(found).map(line).boxed())
}
