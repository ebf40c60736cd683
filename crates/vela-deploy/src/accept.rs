use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use uuid::Uuid;
use vela_manifest::{AppName, Manifest, Strategy, Template, Variable};
use vela_protocol::{DeployRequest, Event, InProgress, Operation as Kind, Who};
use vela_release::{Artifact, ReleaseId, Releases};

use crate::actor::Command;
use crate::engine::{Engine, Handle};
use crate::error::EngineError;
use crate::follow::Known;
use crate::history::{Events, Record};
use crate::hosts::Place;
use crate::meta::Meta;
use crate::operation::{Request, What};
use crate::shared::Claim;

impl Engine {
    pub(crate) async fn accept_deploy(
        &self,
        app: &str,
        request: &DeployRequest,
        who: Who,
    ) -> Result<Events, EngineError> {
        let name = parse_name(app)?;
        let manifest = parse_manifest(&name, &request.manifest)?;
        let digest = || EngineError::Digest {
            sha256: request.sha256.clone(),
        };
        let sha256 = request.sha256.parse().map_err(|_| digest())?;
        let handle = self.handle_of(&name);
        let who = who_is(who, request.client.clone());
        let claim = match self
            .claim(&name, &handle, Kind::Deploy, request.deploy, &who)
            .await?
        {
            Claimed::Free(claim) => claim,
            Claimed::Known(events) => return Ok(events),
        };
        let path = self
            .uploads()
            .find(request.upload)
            .ok_or(EngineError::NoSuchUpload { id: request.upload })?;
        let what = What::Deploy {
            artifact: Artifact {
                path,
                size: request.size,
                sha256,
            },
            build: request.build,
            git: request.git.clone(),
            message: request.message.clone(),
        };
        let secrets = self.secrets(&name).newest()?;
        let deploy = request.deploy;
        let request_of = Request {
            deploy,
            who,
            manifest,
            secrets,
            what,
        };
        self.operate(&name, &handle, claim, request_of, Some(request.upload))
            .await
    }

    /// A rollback or a restart: an operation with a release that exists. `choose` says which, and with which secrets,
    /// once nobody else can change the app.
    pub(crate) async fn accept_existing<C>(
        &self,
        app: &str,
        kind: Kind,
        (deploy, client): (Uuid, Option<String>),
        who: Who,
        choose: impl FnOnce(AppName, Handle) -> C,
    ) -> Result<Events, EngineError>
    where
        C: Future<Output = Result<(ReleaseId, u64, What), EngineError>>,
    {
        let (name, handle) = self.existing(app)?;
        let who = who_is(who, client);
        let claim = match self.claim(&name, &handle, kind, deploy, &who).await? {
            Claimed::Free(claim) => claim,
            Claimed::Known(events) => return Ok(events),
        };
        let (release, secrets, what) = choose(name.clone(), handle.clone()).await?;
        let manifest = Meta::read_manifest(&self.inner.stack.dirs.app(&name), release)?;
        let request = Request {
            deploy,
            who,
            manifest: Arc::new(manifest),
            secrets,
            what,
        };
        self.operate(&name, &handle, claim, request, None).await
    }

    /// The last checks that all operations share, then hands over to the actor.
    async fn operate(
        &self,
        name: &AppName,
        handle: &Handle,
        claim: Claim,
        request: Request,
        upload: Option<Uuid>,
    ) -> Result<Events, EngineError> {
        let strategy = request.manifest.deploy.strategy;
        if strategy == Strategy::Sequential && self.inner.stack.park.is_none() {
            let strategy = strategy.to_string();
            return Err(EngineError::CannotPark { strategy });
        }
        self.require_secrets(name, &request)?;
        let places = Place::all_of(&request.manifest);
        self.inner
            .hosts
            .claim(name, &places)
            .map_err(|taken| EngineError::HostTaken {
                host: taken.place.to_string(),
                by: taken.by.to_string(),
            })?;
        tell(handle, |reply| Command::Operate {
            request,
            claim,
            upload,
            reply,
        })
        .await
    }

    /// A secret that `[env]`, a service's URL or a build refer to must be set before anything starts.
    fn require_secrets(&self, name: &AppName, request: &Request) -> Result<(), EngineError> {
        let values = self.secrets(name).read(request.secrets)?;
        let manifest = &request.manifest;
        let env = manifest
            .env
            .iter()
            .map(|(variable, template)| (variable.as_str(), template));
        let url = manifest
            .services
            .postgres
            .iter()
            .filter_map(|postgres| postgres.url.as_ref());
        let urls = url.map(|template| ("services.postgres.url", template));
        let require = |variable: &str, template: &Template| {
            let mut secrets = template.variables().filter_map(|wanted| match wanted {
                Variable::Secret(secret) => Some(secret),
                _ => None,
            });
            match secrets.find(|secret| !values.contains_key(*secret)) {
                None => Ok(()),
                Some(secret) => Err(EngineError::UnsetSecret {
                    variable: variable.to_owned(),
                    secret: secret.clone(),
                    app: name.to_string(),
                }),
            }
        };
        for (variable, template) in env.chain(urls) {
            require(variable, template)?;
        }
        if let (What::Deploy { build: true, .. }, Some(build)) = (&request.what, &manifest.build) {
            for (variable, template) in &build.env {
                require(&format!("build.env.{variable}"), template)?;
            }
        }
        Ok(())
    }

    /// Takes the app for an operation; one that was asked for before is followed instead.
    pub(crate) async fn claim(
        &self,
        name: &AppName,
        handle: &Handle,
        kind: Kind,
        deploy: Uuid,
        who: &Who,
    ) -> Result<Claimed, EngineError> {
        loop {
            match self.known(name, handle, deploy, 0)? {
                Known::Events(events) => return Ok(Claimed::Known(events)),
                Known::Begins => {
                    Engine::begins_soon().await;
                    continue;
                }
                Known::Nothing => {}
            }
            let claimed = self.try_claim(handle, kind, deploy, who)?;
            // Between the two it may have begun, and even ended: it must not be done twice.
            if self.was_begun(name, deploy)? {
                continue;
            }
            match claimed {
                Ok(claim) => return Ok(Claimed::Free(claim)),
                Err(holder) if holder.deploy != deploy => {
                    let app = name.to_string();
                    return Err(EngineError::Busy { app, holder });
                }
                Err(_) => Engine::begins_soon().await,
            }
        }
    }

    /// Takes the app, or says which operation has it.
    pub(crate) fn try_claim(
        &self,
        handle: &Handle,
        kind: Kind,
        deploy: Uuid,
        who: &Who,
    ) -> Result<Result<Claim, Box<InProgress>>, EngineError> {
        if self.inner.stopping.load(Ordering::SeqCst) {
            return Err(EngineError::Stopping);
        }
        let now = self.inner.stack.clock.now();
        Ok(handle.shared.claim(kind, deploy, who.clone(), now))
    }
}

/// What comes of asking for an app.
pub(crate) enum Claimed {
    /// Nobody else had it.
    Free(Claim),
    /// The operation was asked for before.
    Known(Events),
}

pub(crate) async fn tell<T>(
    handle: &Handle,
    command: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Command,
) -> Result<T, EngineError> {
    let (reply, answer) = oneshot::channel();
    handle
        .commands
        .send(command(reply))
        .await
        .map_err(|_| EngineError::Stopping)?;
    answer.await.map_err(|_| EngineError::Stopping)?
}

/// What an app has on disk. An app whose store no operation has opened yet has nothing.
pub(crate) async fn list_releases(handle: &Handle) -> Result<Releases, EngineError> {
    match handle.shared.opened_store() {
        Some(store) => store.list().await.map_err(EngineError::Store),
        None => Ok(Releases::default()),
    }
}

/// The release that a rollback goes to: the one that was asked for, or the one that the current release replaced when
/// it was deployed.
pub(crate) async fn rollback_target(
    history: &Path,
    name: &AppName,
    handle: &Handle,
    to: Option<&str>,
) -> Result<ReleaseId, EngineError> {
    let app = || name.to_string();
    let releases = list_releases(handle).await?;
    let current = releases.current;
    let Some(to) = to else {
        let replaced = current
            .map(|current| replaced_by(history, current))
            .transpose()?
            .flatten();
        let kept = replaced.filter(|id| releases.get(*id).is_some());
        // Every complete release but that of an operation under way has served; history may be gone.
        let older = || {
            releases
                .all
                .iter()
                .rev()
                .map(|release| release.id)
                .find(|id| Some(*id) < current)
        };
        return kept
            .or_else(older)
            .ok_or_else(|| EngineError::NoPreviousRelease { app: app() });
    };
    let missing = || EngineError::NoSuchRelease {
        app: app(),
        release: to.to_owned(),
    };
    let id: ReleaseId = to.parse().map_err(|_| missing())?;
    if Some(id) == current {
        return Err(EngineError::AlreadyCurrent {
            app: app(),
            release: to.to_owned(),
        });
    }
    releases
        .get(id)
        .map(|release| release.id)
        .ok_or_else(missing)
}

fn replaced_by(history: &Path, release: ReleaseId) -> Result<Option<ReleaseId>, EngineError> {
    // A deploy's record has the id of its release.
    let record = Record::read(release, history)?;
    let started = record.as_ref().map(|record| &record.events[0].event);
    Ok(match started {
        Some(Event::Started {
            previous: Some(previous),
            ..
        }) => previous.parse().ok(),
        _ => None,
    })
}

pub(crate) fn who_is(who: Who, client: Option<String>) -> Who {
    Who {
        client: client.or(who.client),
        ..who
    }
}

pub(crate) fn parse_name(app: &str) -> Result<AppName, EngineError> {
    AppName::parse(app).map_err(|source| EngineError::AppName {
        name: app.to_owned(),
        source: Box::new(source),
    })
}

fn parse_manifest(name: &AppName, text: &str) -> Result<Arc<Manifest>, EngineError> {
    let manifest = Manifest::parse("Vela.toml", text).map_err(|source| EngineError::Manifest {
        source: Box::new(source),
    })?;
    if manifest.app.name != *name {
        let manifest = manifest.app.name.to_string();
        return Err(EngineError::OtherApp {
            app: name.to_string(),
            manifest,
        });
    }
    if let Some(unsupported) = manifest.not_yet_deployable().into_iter().next() {
        return Err(EngineError::NotYetDeployable {
            key: unsupported.key,
            why: unsupported.why,
        });
    }
    Ok(Arc::new(manifest))
}
