use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use hyper::{Method, Request};
use vela_deploy::{Engine, EngineError};
use vela_protocol::{
    ApiError, DeployRequest, ErrorCode, MaintenanceRequest, RestartRequest, RollbackRequest,
    SecretChange, ServerVersion, Who,
};

use super::answer::{self, Answer};
use super::request::{check_version, id, json, query, segments};
use crate::headers::CLIENT;

/// What one peer may ask of the engine: everything, in its own name.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) engine: Engine,
    pub(super) peer: Who,
}

/// The version of the daemon that this is a part of.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How many lines of a log are given when the request does not say.
const LOG_LINES: usize = 100;

impl Api {
    /// Answers one request; an error is an answer as well.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Answer {
        let asked = format!("{} {}", request.method(), request.uri().path());
        match self.route(request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(asked, code = ?error.code, %error, "refused");
                answer::error(&error)
            }
        }
    }

    async fn route(self, request: Request<Incoming>) -> Result<Answer, ApiError> {
        let (head, body) = request.into_parts();
        check_version(&head)?;
        let segments = segments(head.uri.path())?;
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let engine = self.engine;
        let who = Who {
            client: head
                .headers
                .get(CLIENT)
                .and_then(|name| name.to_str().ok())
                .map(Into::into),
            ..self.peer
        };
        match (&head.method, &path[..]) {
            (&Method::GET, ["v1", "version"]) => Ok(answer::json(&version(&engine))),
            (&Method::PUT, ["v1", "uploads", upload]) => {
                // Not finished if the client goes away: what came of it is dropped.
                let received = engine
                    .uploads()
                    .receive(id(upload)?, BodyDataStream::new(body));
                Ok(answer::json(&received.await?))
            }
            (&Method::DELETE, ["v1", "uploads", upload]) => {
                engine.uploads().discard(id(upload)?)?;
                Ok(answer::done())
            }
            (&Method::GET, ["v1", "stats"]) => match engine.router_stats() {
                Some(stats) => Ok(answer::json(&stats)),
                None => Err(ApiError::new(
                    ErrorCode::NotFound,
                    "the router keeps no statistics",
                )),
            },
            (&Method::GET, ["v1", "services"]) => Ok(answer::json(&engine.services().await?)),
            (&Method::GET, ["v1", "services", server, "logs"]) => {
                let lines = query(&head, "lines")?.unwrap_or(LOG_LINES);
                let follow = query(&head, "follow")?.unwrap_or(false);
                let lines = engine.service_logs(server, lines, follow).await?;
                Ok(answer::lines(lines))
            }
            (&Method::GET, ["v1", "certificates"]) => Ok(answer::json(&engine.certificates())),
            (&Method::POST, ["v1", "apps", app, "certificate", "renew"]) => {
                // The renewal goes on even if nobody waits for it.
                Ok(answer::json(&engine.renew_certificate(app).await?))
            }
            (&Method::GET, ["v1", "apps", app, "services"]) => {
                Ok(answer::json(&engine.credentials(app).await?))
            }
            (&Method::GET, ["v1", "apps"]) => Ok(answer::json(&engine.apps())),
            (&Method::GET, ["v1", "apps", app]) => Ok(answer::json(&engine.status(app)?)),
            (&Method::DELETE, ["v1", "apps", app]) => {
                let (app, purge) = (app.to_string(), query(&head, "purge")?.unwrap_or(false));
                finished(async move { engine.remove(&app, purge, who).await }).await?;
                Ok(answer::done())
            }
            (&Method::POST, ["v1", "apps", app, "deploys"]) => {
                let (app, request) = (app.to_string(), json::<DeployRequest>(body).await?);
                let events = finished(async move { engine.deploy(&app, request, who).await });
                Ok(answer::lines(events.await?))
            }
            (&Method::POST, ["v1", "apps", app, "rollback"]) => {
                let (app, request) = (app.to_string(), json::<RollbackRequest>(body).await?);
                let events = finished(async move { engine.rollback(&app, request, who).await });
                Ok(answer::lines(events.await?))
            }
            (&Method::POST, ["v1", "apps", app, "restart"]) => {
                let (app, request) = (app.to_string(), json::<RestartRequest>(body).await?);
                let events = finished(async move { engine.restart(&app, request, who).await });
                Ok(answer::lines(events.await?))
            }
            (&Method::POST, ["v1", "apps", app, "start"]) => {
                let (app, request) = (app.to_string(), json::<RestartRequest>(body).await?);
                let events = finished(async move { engine.start(&app, request, who).await });
                Ok(answer::lines(events.await?))
            }
            (&Method::POST, ["v1", "apps", app, "stop"]) => {
                let app = app.to_string();
                let status = finished(async move { engine.stop(&app, who).await });
                Ok(answer::json(&status.await?))
            }
            (&Method::PUT, ["v1", "apps", app, "maintenance"]) => {
                let (app, request) = (app.to_string(), json::<MaintenanceRequest>(body).await?);
                let status =
                    finished(async move { engine.maintain(&app, Some(request), who).await });
                Ok(answer::json(&status.await?))
            }
            (&Method::DELETE, ["v1", "apps", app, "maintenance"]) => {
                let app = app.to_string();
                let status = finished(async move { engine.maintain(&app, None, who).await });
                Ok(answer::json(&status.await?))
            }
            (&Method::POST, ["v1", "apps", app, "cancel"]) => {
                let (app, deploy) = (app.to_string(), query(&head, "deploy")?);
                finished(async move { engine.cancel(&app, deploy, who).await }).await?;
                Ok(answer::done())
            }
            (&Method::GET, ["v1", "apps", app, "releases"]) => {
                Ok(answer::json(&engine.releases(app).await?))
            }
            (&Method::GET, ["v1", "apps", app, "history"]) => {
                Ok(answer::json(&engine.history(app).await?))
            }
            (&Method::GET, ["v1", "apps", app, "logs"]) => {
                let lines = query(&head, "lines")?.unwrap_or(LOG_LINES);
                let follow = query(&head, "follow")?.unwrap_or(false);
                Ok(answer::lines(engine.logs(app, lines, follow).await?))
            }
            (&Method::GET, ["v1", "apps", app, "build-log"]) => {
                let release: Option<String> = query(&head, "release")?;
                let lines = query(&head, "lines")?.unwrap_or(usize::MAX);
                let lines = engine.build_log(app, release.as_deref(), lines).await?;
                Ok(answer::lines(lines))
            }
            (&Method::GET, ["v1", "apps", app, "secrets"]) => {
                Ok(answer::json(&engine.secret_names(app).await?))
            }
            (&Method::PATCH, ["v1", "apps", app, "secrets"]) => {
                let (app, change) = (app.to_string(), json::<SecretChange>(body).await?);
                let names = finished(async move { engine.change_secrets(&app, change, who).await });
                Ok(answer::json(&names.await?))
            }
            (&Method::GET, ["v1", "deploys", deploy, "events"]) => {
                let from = query(&head, "from")?.unwrap_or(0);
                let events = engine.attach(id(deploy)?, from).await?;
                Ok(answer::lines(events))
            }
            (method, _) => {
                let what = format!("there is no {method} {}", head.uri.path());
                Err(ApiError::new(ErrorCode::NotFound, what))
            }
        }
    }
}

fn version(engine: &Engine) -> ServerVersion {
    ServerVersion {
        version: VERSION.into(),
        protocol: vela_protocol::VERSION,
        data_dir: engine.data_dir().display().to_string(),
        pid: std::process::id(),
    }
}

/// Does what a client asked for to its end, even if the client goes away meanwhile.
async fn finished<T: Send + 'static>(
    work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work).await {
        Ok(result) => Ok(result?),
        Err(error) => {
            tracing::error!(%error, "a request ended in a panic");
            let message = "the daemon failed in a way that it should not";
            Err(ApiError::new(ErrorCode::Internal, message))
        }
    }
}
