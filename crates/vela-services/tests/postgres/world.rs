//! A `Postgres` over child processes in a directory of its own, and what looks at it from outside.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};
use vela_services::{
    Bindings, Children, Installer, OwnerName, Postgres, Provisioner, Runner, ServerName,
    ServiceError, ServiceSpec,
};

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) runner: Arc<Children>,
    pub(crate) postgres: Postgres,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let runner = Arc::new(Children::new(dir.path().join("logs")));
        let postgres = provisioner(dir.path(), &runner);
        Self {
            dir,
            runner,
            postgres,
        }
    }

    /// Another one over the same files and servers, as after a restart of the host program.
    pub(crate) fn again(&self) -> Postgres {
        provisioner(self.dir.path(), &self.runner)
    }

    /// Ends all servers.
    pub(crate) async fn end(self) {
        for major in ["15", "99"] {
            self.runner.stop(&server(major)).await.unwrap();
        }
    }

    pub(crate) async fn ensure(&self, name: &str) -> Bindings {
        self.try_ensure(name, &ServiceSpec::default())
            .await
            .unwrap()
    }

    pub(crate) async fn try_ensure(
        &self,
        name: &str,
        spec: &ServiceSpec,
    ) -> Result<Bindings, ServiceError> {
        self.postgres.ensure(&owner(name), spec).await
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("postgres").join(path)
    }

    pub(crate) async fn pid(&self) -> u32 {
        let state = self.runner.state(&server("15"), 0).await;
        state.pid.unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("logs/postgres-15.log")).unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        let text = fs::read_to_string(self.path("15/server.toml")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("port = "));
        line.unwrap().parse().unwrap()
    }

    /// The superuser, over the socket.
    pub(crate) async fn superuser(&self, database: &str) -> Client {
        let mut config = Config::new();
        config
            .host_path(self.path("15/run"))
            .port(self.port())
            .user("postgres")
            .dbname(database);
        connect(&config).await.unwrap()
    }

    pub(crate) async fn sql(&self, statement: &str) {
        let client = self.superuser("postgres").await;
        client.batch_execute(statement).await.unwrap();
    }
}

fn provisioner(dir: &Path, runner: &Arc<Children>) -> Postgres {
    Postgres::new(dir.join("postgres"), Arc::clone(runner) as Arc<dyn Runner>)
        .installer(Installer::never())
}

pub(crate) fn owner(name: &str) -> OwnerName {
    OwnerName::parse(name).unwrap()
}

pub(crate) fn server(major: &str) -> ServerName {
    ServerName::parse(&format!("postgres-{major}")).unwrap()
}

pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The program of an owner: in by its url.
pub(crate) async fn app(bindings: &Bindings) -> Result<Client, tokio_postgres::Error> {
    connect(&bindings["DATABASE_URL"].expose_secret().parse().unwrap()).await
}

/// What the server answers to a statement that it refuses.
pub(crate) fn refused<T>(answer: Result<T, tokio_postgres::Error>) -> String {
    let error = answer.err().expect("the server refuses it");
    chain(&error)
}

pub(crate) fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

pub(crate) async fn one(client: &Client, question: &str) -> String {
    client.query_one(question, &[]).await.unwrap().get(0)
}

/// Polls a future so many times, if it takes that many, and drops it then: what a caller does who
/// gives up in the middle. Tells whether it had come to its end.
pub(crate) async fn polled<T>(times: usize, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| {
        if future.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(true);
        }
        left = left.saturating_sub(1);
        if left == 0 {
            return std::task::Poll::Ready(false);
        }
        std::task::Poll::Pending
    })
    .await
}

pub(crate) fn spec(databases: &[&str], extensions: &[&str]) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.databases = databases.iter().map(|&name| name.to_owned()).collect();
    spec.extensions = extensions.iter().map(|&name| name.to_owned()).collect();
    spec
}

pub(crate) fn kill(pid: u32) {
    let pid = i32::try_from(pid).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}
