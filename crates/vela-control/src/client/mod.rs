use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use tokio::io::AsyncRead;
use uuid::Uuid;
use vela_protocol::{
    AppStatus, CertificateStatus, DeployRequest, HistoryEntry, MaintenanceRequest, ReleaseSummary,
    RestartRequest, RollbackRequest, SecretChange, SecretNames, ServerVersion, ServiceCredentials,
    ServiceStatus, StartRequest, Upload,
};

use crate::transport::Transport;
use http::{Call, Http, segment};

mod error;
mod events;
mod http;
pub(crate) mod lines;
mod logs;
mod upload;

pub use error::ClientError;
pub use events::{EventStream, Reconnecting};
pub use logs::LogStream;

/// The API of one daemon.
///
/// Cheap to clone; clones share connections. Needs a tokio runtime with I/O and time.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
}

impl Client {
    /// A client that reaches its daemon by `transport`; nothing is opened yet.
    pub fn new(transport: Arc<dyn Transport>) -> Client {
        Client {
            http: Http::new(transport),
        }
    }

    /// The same, under a name that the daemon notes beside the peer's user, such as `alice@laptop`. A name that is not
    /// of printable ASCII characters is left out.
    #[must_use]
    pub fn with_name(self, name: &str) -> Client {
        Client {
            http: self.http.named(name),
        }
    }

    /// The server's name, for messages.
    pub fn address(&self) -> String {
        self.http.address()
    }

    /// The daemon's version. Fails if it speaks other words than this client.
    ///
    /// Worth calling early, while something else is done: it opens the connection that later calls use.
    pub async fn version(&self) -> Result<ServerVersion, ClientError> {
        let version: ServerVersion = self.http.json(&Call::get("/v1/version".into())).await?;
        match version.protocol == vela_protocol::VERSION {
            true => Ok(version),
            false => Err(ClientError::Version {
                server: version.protocol,
            }),
        }
    }

    /// Uploads an artifact of `size` bytes under an `id` made by the caller. `progress` gets the bytes sent so far.
    ///
    /// A cut upload leaves nothing at the daemon and can be made again under the same id.
    pub async fn upload(
        &self,
        id: Uuid,
        artifact: impl AsyncRead + Send + Unpin,
        size: u64,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Upload, ClientError> {
        upload::send(&self.http, id, artifact, size, &mut progress).await
    }

    /// Uploads a file. Unlike [`upload`](Self::upload), it begins again by itself when the connection is lost, thrice
    /// at most; `progress` then starts from 0 again.
    pub async fn upload_file(
        &self,
        id: Uuid,
        path: &Path,
        progress: impl FnMut(u64) + Send,
    ) -> Result<Upload, ClientError> {
        upload::send_file(&self.http, id, path, progress).await
    }

    /// Drops an upload that will not be deployed.
    pub async fn discard_upload(&self, id: Uuid) -> Result<(), ClientError> {
        upload::discard(&self.http, id).await
    }

    /// Deploys an upload. Errors that precede the first event, such as another deploy in progress, come at once.
    pub async fn deploy(
        &self,
        app: &str,
        request: &DeployRequest,
    ) -> Result<EventStream, ClientError> {
        self.operation(app, "deploys", request, request.deploy)
            .await
    }

    /// Goes back to an earlier release.
    pub async fn rollback(
        &self,
        app: &str,
        request: &RollbackRequest,
    ) -> Result<EventStream, ClientError> {
        self.operation(app, "rollback", request, request.deploy)
            .await
    }

    /// Replaces the instances of the current release by new ones.
    pub async fn restart(
        &self,
        app: &str,
        request: &RestartRequest,
    ) -> Result<EventStream, ClientError> {
        self.operation(app, "restart", request, request.deploy)
            .await
    }

    /// Starts an app that was stopped.
    pub async fn start(
        &self,
        app: &str,
        request: &StartRequest,
    ) -> Result<EventStream, ClientError> {
        self.operation(app, "start", request, request.deploy).await
    }

    /// Stops an app; returns when it is stopped. It stays so over a reboot.
    pub async fn stop(&self, app: &str) -> Result<AppStatus, ClientError> {
        let path = format!("/v1/apps/{}/stop", segment(app));
        let call = Call::change(Method::POST, path, Bytes::new());
        self.http.json(&call).await
    }

    /// Keeps an app from its users, or ends that; returns when it is so. Asking again changes what they are told and
    /// who is served nonetheless.
    pub async fn maintain(
        &self,
        app: &str,
        request: Option<&MaintenanceRequest>,
    ) -> Result<AppStatus, ClientError> {
        let path = format!("/v1/apps/{}/maintenance", segment(app));
        let call = match request {
            Some(request) => Call::change(Method::PUT, path, json(request)),
            None => Call::change(Method::DELETE, path, Bytes::new()),
        };
        let call = Call {
            idempotent: true,
            ..call
        };
        self.http.json(&call).await
    }

    /// Removes an app; its data, secrets and history too if `purge`.
    pub async fn remove(&self, app: &str, purge: bool) -> Result<(), ClientError> {
        let path = format!("/v1/apps/{}?purge={purge}", segment(app));
        self.done(Method::DELETE, path).await
    }

    /// Undoes the app's operation, or `deploy` alone, if it has not switched the traffic yet.
    pub async fn cancel(&self, app: &str, deploy: Option<Uuid>) -> Result<(), ClientError> {
        let mut path = format!("/v1/apps/{}/cancel", segment(app));
        if let Some(deploy) = deploy {
            path.push_str(&format!("?deploy={deploy}"));
        }
        self.done(Method::POST, path).await
    }

    /// One app's status; never waits for an operation.
    pub async fn status(&self, app: &str) -> Result<AppStatus, ClientError> {
        self.get(format!("/v1/apps/{}", segment(app))).await
    }

    /// Every app's status.
    pub async fn apps(&self) -> Result<Vec<AppStatus>, ClientError> {
        self.get("/v1/apps".into()).await
    }

    /// An app's releases, newest first.
    pub async fn releases(&self, app: &str) -> Result<Vec<ReleaseSummary>, ClientError> {
        self.get(format!("/v1/apps/{}/releases", segment(app)))
            .await
    }

    /// An app's operations, newest first.
    pub async fn history(&self, app: &str) -> Result<Vec<HistoryEntry>, ClientError> {
        self.get(format!("/v1/apps/{}/history", segment(app))).await
    }

    /// The events of an operation from the `from`th on, whether it runs or has ended.
    pub async fn attach(&self, deploy: Uuid, from: u64) -> Result<EventStream, ClientError> {
        EventStream::attach(self.http.clone(), deploy, from).await
    }

    /// The last lines of an app's log, and with `follow` those that are written from now on.
    pub async fn logs(
        &self,
        app: &str,
        lines: usize,
        follow: bool,
    ) -> Result<LogStream, ClientError> {
        let path = format!(
            "/v1/apps/{}/logs?lines={lines}&follow={follow}",
            segment(app)
        );
        self.log_lines(path).await
    }

    /// What the build of a release on the server wrote, or the last build, also if it failed; without `lines` all of it.
    pub async fn build_log(
        &self,
        app: &str,
        release: Option<&str>,
        lines: Option<usize>,
    ) -> Result<LogStream, ClientError> {
        let release = release.map(|release| format!("release={}", segment(release)));
        let lines = lines.map(|lines| format!("lines={lines}"));
        let query: Vec<_> = release.into_iter().chain(lines).collect();
        let path = format!("/v1/apps/{}/build-log?{}", segment(app), query.join("&"));
        self.log_lines(path).await
    }

    /// The servers of services, each with the apps that have something in it.
    pub async fn services(&self) -> Result<Vec<ServiceStatus>, ClientError> {
        self.get("/v1/services".into()).await
    }

    /// The last lines of a server's log, and with `follow` those that are written from now on. `server` is its name,
    /// or its kind where there is one server of it.
    pub async fn service_logs(
        &self,
        server: &str,
        lines: usize,
        follow: bool,
    ) -> Result<LogStream, ClientError> {
        let path = format!(
            "/v1/services/{}/logs?lines={lines}&follow={follow}",
            segment(server)
        );
        self.log_lines(path).await
    }

    /// The variables that the services give to an app, passwords among them.
    pub async fn credentials(&self, app: &str) -> Result<ServiceCredentials, ClientError> {
        self.get(format!("/v1/apps/{}/services", segment(app)))
            .await
    }

    /// What the daemon's proxy counts, in the text format of OpenMetrics, which Prometheus reads.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        self.http.text(&Call::get("/v1/metrics".into())).await
    }

    /// The names of an app's secrets.
    pub async fn secret_names(&self, app: &str) -> Result<SecretNames, ClientError> {
        self.get(format!("/v1/apps/{}/secrets", segment(app))).await
    }

    /// Sets and removes secrets, as one new version of them.
    pub async fn change_secrets(
        &self,
        app: &str,
        change: &SecretChange,
    ) -> Result<SecretNames, ClientError> {
        let path = format!("/v1/apps/{}/secrets", segment(app));
        let call = Call::change(Method::PATCH, path, json(change));
        self.http.json(&call).await
    }

    /// Every certificate of the server.
    pub async fn certificates(&self) -> Result<Vec<CertificateStatus>, ClientError> {
        self.get("/v1/certificates".into()).await
    }

    /// Renews the certificate of an app now. Waits for the result, some minutes at most; a failure is in its state.
    pub async fn renew_certificate(&self, app: &str) -> Result<CertificateStatus, ClientError> {
        let path = format!("/v1/apps/{}/certificate/renew", segment(app));
        let call = Call::change(Method::POST, path, Bytes::new());
        self.http.json(&call).await
    }

    async fn operation(
        &self,
        app: &str,
        verb: &str,
        request: &impl Serialize,
        deploy: Uuid,
    ) -> Result<EventStream, ClientError> {
        let path = format!("/v1/apps/{}/{verb}", segment(app));
        let call = Call {
            // Its id makes a repetition the same operation.
            idempotent: true,
            ..Call::change(Method::POST, path, json(request))
        };
        EventStream::begin(self.http.clone(), call, deploy).await
    }

    async fn log_lines(&self, path: String) -> Result<LogStream, ClientError> {
        let answer = self.http.call(&Call::get(path)).await?;
        let lines = lines::Lines::new(answer.into_body());
        Ok(LogStream::new(self.http.clone(), lines))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: String) -> Result<T, ClientError> {
        self.http.json(&Call::get(path)).await
    }

    async fn done(&self, method: Method, path: String) -> Result<(), ClientError> {
        let answer = self
            .http
            .call(&Call::change(method, path, Bytes::new()))
            .await?;
        // Read to its end, so that the connection can be used again.
        self.http.read(answer).await.map(drop)
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("requests are structs of strings and numbers")
        .into()
}
