//! An engine inside the test, with real processes behind a real proxy.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;
use vela_deploy::{Dirs, Engine, EngineError, Stack};
use vela_protocol::{DeployRequest, Envelope, Event, Who};
use vela_proxy::{Proxy, ProxyConfig, Serving};
use vela_supervisor::{InProcess, Ports, Supervisor};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) engine: Engine,
    pub(crate) supervisor: Arc<InProcess>,
    pub(crate) http: SocketAddr,
    _serving: Serving,
}

pub(crate) fn who() -> Who {
    Who {
        uid: Some(0),
        user: "tester".into(),
        client: None,
    }
}

impl World {
    pub(crate) async fn new(change: impl FnOnce(Stack) -> Stack) -> World {
        World::open(
            tempfile::tempdir().unwrap(),
            Arc::new(InProcess::new()),
            change,
        )
        .await
    }

    async fn open(
        dir: tempfile::TempDir,
        supervisor: Arc<InProcess>,
        change: impl FnOnce(Stack) -> Stack,
    ) -> World {
        let proxy = Proxy::new(ProxyConfig {
            workers: 1.try_into().unwrap(),
            ..ProxyConfig::default()
        });
        let dirs = Dirs::new(dir.path().join("vela"));
        let stack = Stack::local(
            dirs,
            supervisor.clone(),
            Ports::new(10000..=20000),
            proxy.clone(),
        );
        let engine = Engine::open(change(stack)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = listener.local_addr().unwrap();
        let serving = proxy.serve(vec![listener]).unwrap();
        World {
            dir,
            engine,
            supervisor,
            http,
            _serving: serving,
        }
    }

    /// Another engine on the same directory and processes, as after a restart of the daemon, with `between` done while
    /// there is none.
    pub(crate) async fn restarted(self, between: impl FnOnce(&Dirs)) -> World {
        self.restarted_with(between, |stack| stack).await
    }

    /// The same, with another stack.
    pub(crate) async fn restarted_with(
        self,
        between: impl FnOnce(&Dirs),
        change: impl FnOnce(Stack) -> Stack,
    ) -> World {
        let World {
            dir,
            engine,
            supervisor,
            ..
        } = self;
        engine.shutdown(false).await;
        drop(engine);
        let dirs = Dirs::new(dir.path().join("vela"));
        between(&dirs);
        World::open(dir, supervisor, change).await
    }

    pub(crate) fn dirs(&self) -> Dirs {
        Dirs::new(self.dir.path().join("vela"))
    }

    /// Uploads a release whose entrypoint `tiny` runs the example app with these variables.
    pub(crate) async fn upload(&self, manifest: &str, variables: &[(&str, &str)]) -> DeployRequest {
        let release = tempfile::tempdir_in(self.dir.path()).unwrap();
        write_script(&release.path().join("tiny"), variables);
        self.upload_dir(manifest, release.path()).await
    }

    pub(crate) async fn upload_dir(&self, manifest: &str, release: &Path) -> DeployRequest {
        let archive = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        let packed =
            vela_release::pack(release, File::create(archive.path()).unwrap(), &mut |_| {})
                .unwrap();
        let upload = Uuid::new_v4();
        let body = futures::stream::iter([std::fs::read(archive.path())]);
        self.engine.uploads().receive(upload, body).await.unwrap();
        DeployRequest {
            deploy: Uuid::new_v4(),
            upload,
            build: false,
            size: packed.size,
            sha256: packed.sha256.to_string(),
            manifest: manifest.to_owned(),
            git: None,
            message: None,
            client: None,
        }
    }

    /// Deploys and waits for the end.
    pub(crate) async fn deploy(&self, manifest: &str, variables: &[(&str, &str)]) -> Vec<Event> {
        let request = self.upload(manifest, variables).await;
        self.run(request).await.unwrap()
    }

    pub(crate) async fn run(&self, request: DeployRequest) -> Result<Vec<Event>, EngineError> {
        Ok(all(self.engine.deploy("tiny", request, who()).await?).await)
    }

    /// Status and body of one request through the proxy.
    pub(crate) async fn get(&self, host: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        let body = if chunked {
            body.lines().nth(1).unwrap_or_default()
        } else {
            body
        };
        (status, body.to_owned())
    }

    pub(crate) fn releases(&self) -> Vec<String> {
        names(&self.dirs().apps().join("tiny/releases"))
    }

    pub(crate) fn metas(&self) -> Vec<String> {
        names(&self.dirs().apps().join("tiny/meta"))
    }

    pub(crate) fn current(&self) -> Option<String> {
        let link = std::fs::read_link(self.dirs().apps().join("tiny/current")).ok()?;
        Some(link.file_name().unwrap().to_str().unwrap().to_owned())
    }

    /// Waits until the app is in this state.
    pub(crate) async fn until(&self, state: vela_protocol::AppState) -> vela_protocol::AppStatus {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.engine.status("tiny").unwrap();
            if status.state == state {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "{status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The labels of every process.
    pub(crate) async fn instances(&self) -> Vec<BTreeMap<String, String>> {
        self.supervisor
            .list()
            .await
            .unwrap()
            .into_iter()
            .map(|one| one.labels)
            .collect()
    }
}

pub(crate) fn write_script(path: &Path, variables: &[(&str, &str)]) {
    use std::os::unix::fs::PermissionsExt;
    let exports: String = variables
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'\n"))
        .collect();
    let script = format!("#!/bin/sh\n{exports}exec '{}'\n", tiny_app().display());
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Cargo builds the examples with the tests.
fn tiny_app() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples/tiny_app");
    assert!(
        path.exists(),
        "{} is missing: build the examples",
        path.display()
    );
    path
}

pub(crate) async fn all(events: vela_deploy::Events) -> Vec<Event> {
    let all = events.map(|envelope: Envelope| envelope.event).collect();
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("the operation ends")
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
