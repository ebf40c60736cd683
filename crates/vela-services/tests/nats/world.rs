//! A directory of services, and the real nats-server in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use vela_services::{
    Bindings, Children, JetStream, Nats, OwnerName, Provisioner, Runner, ServerName, ServiceError,
    ServiceSpec,
};

pub(crate) struct World {
    pub(crate) nats: Nats,
    pub(crate) runner: Arc<Children>,
    dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        // Only the machine's program: nothing is to be downloaded by accident.
        Self::with(|nats| nats.download(None))
    }

    pub(crate) fn with(set_up: impl FnOnce(Nats) -> Nats) -> Self {
        let dir = TempDir::new().unwrap();
        // The server's user has to pass.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let runner = Arc::new(Children::new(dir.path().join("logs")));
        let nats = set_up(Nats::new(dir.path().join("nats"), runner.clone()));
        Self { nats, runner, dir }
    }

    /// The host program was started again; `reboot` says whether the machine was, too.
    pub(crate) fn restarted(self, reboot: bool) -> Self {
        let Self { nats, runner, dir } = self;
        drop(nats);
        let runner = if reboot {
            drop(runner);
            Arc::new(Children::new(dir.path().join("logs")))
        } else {
            runner
        };
        let nats = Nats::new(dir.path().join("nats"), runner.clone()).download(None);
        Self { nats, runner, dir }
    }

    /// The same directory, with another configuration.
    pub(crate) fn set_up(self, set_up: impl FnOnce(Nats) -> Nats) -> Self {
        let nats = set_up(Nats::new(self.path(""), self.runner.clone()));
        Self { nats, ..self }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("nats").join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("logs/nats.log")).unwrap()
    }

    pub(crate) async fn ensure(&self, owner: &str, spec: &ServiceSpec) -> Access {
        self.try_ensure(owner, spec)
            .await
            .unwrap_or_else(|error| panic!("{error:?}\n{}", error.output().join("\n")))
    }

    pub(crate) async fn try_ensure(
        &self,
        owner: &str,
        spec: &ServiceSpec,
    ) -> Result<Access, ServiceError> {
        let bindings = self.nats.ensure(&name(owner), spec).await?;
        Ok(Access::new(&bindings))
    }

    pub(crate) async fn remove(&self, owner: &str, purge: bool) {
        self.nats.remove(&name(owner), purge).await.unwrap();
    }

    /// The server's process, if it runs.
    pub(crate) async fn pid(&self) -> Option<u32> {
        let statuses = self.nats.status().await.unwrap();
        statuses.first().and_then(|status| status.pid)
    }

    pub(crate) async fn kill(&self) {
        let before = self.pid().await.expect("it runs");
        let pid = Pid::from_raw(i32::try_from(before).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        // Until the runner has seen it, a look would find it running.
        while self.runner.state(&server(), 0).await.pid == Some(before) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(crate) fn server() -> ServerName {
    ServerName::parse("nats").unwrap()
}

pub(crate) fn name(owner: &str) -> OwnerName {
    OwnerName::parse(owner).unwrap()
}

pub(crate) fn plain() -> ServiceSpec {
    ServiceSpec::default()
}

pub(crate) fn with_jetstream() -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.jetstream = Some(JetStream::default());
    spec
}

pub(crate) fn with_subjects(subjects: &[&str]) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.subjects = subjects.iter().map(|&subject| subject.into()).collect();
    spec
}

/// What a program gets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Access {
    fn new(bindings: &Bindings) -> Self {
        let value = |name: &str| bindings[name].expose_secret().to_owned();
        Self {
            url: value("NATS_URL"),
            user: value("NATS_USER"),
            password: value("NATS_PASSWORD"),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// A client as a program has one.
    pub(crate) async fn client(&self) -> async_nats::Client {
        let (user, password) = (self.user.clone(), self.password.clone());
        // This library does not take them from the url.
        async_nats::ConnectOptions::with_user_and_password(user, password)
            .connect(&self.url)
            .await
            .unwrap()
    }
}

/// A connection without a library, which hides nothing: it is one socket, or it is gone.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Logs in; gives the server's error if it refuses.
    pub(crate) fn login(access: &Access) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", access.port())).map_err(|e| e.to_string())?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut wire = Self {
            stream: BufReader::new(stream),
        };
        assert!(wire.line().starts_with("INFO "));
        let (user, password) = (&access.user, &access.password);
        wire.say(&format!(
            r#"CONNECT {{"verbose":false,"user":"{user}","pass":"{password}"}}"#
        ));
        match wire.ask("PING").as_str() {
            "PONG" => Ok(wire),
            refused => Err(refused.to_owned()),
        }
    }

    /// Sends a line, and gives the answer to it.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    pub(crate) fn say(&mut self, line: &str) {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next line that is no question of the server's; nothing if it is the end.
    pub(crate) fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end() {
                "PING" => self.say("PONG"),
                line => return line.to_owned(),
            }
        }
    }
}
