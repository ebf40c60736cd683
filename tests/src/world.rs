use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use vela_control::{Client, UnixTransport};
use vela_protocol::AppStatus;

use crate::process::{descendants_of, kill, processes_of, shims_of};
use crate::release::program;
use crate::{Output, Release};

/// What a world is made with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Run each app as a user of its own; needs root.
    pub isolate: bool,
    /// Lines for the daemon's configuration.
    pub config: String,
    /// The ports of HTTP and HTTPS, if others know them already. Else HTTPS is not served.
    pub ports: Option<(u16, u16)>,
    /// The data directory, if not one below the world's own directory.
    pub data_dir: Option<PathBuf>,
}

/// A daemon in a directory of its own. What it started ends with it.
#[derive(Debug)]
pub struct World {
    dir: tempfile::TempDir,
    data_dir: PathBuf,
    addr: SocketAddr,
    daemon: Option<Child>,
}

impl World {
    /// Starts a daemon and waits until it answers.
    pub async fn new() -> World {
        World::with(Options::default()).await
    }

    /// The same, in other circumstances.
    pub async fn with(options: Options) -> World {
        let mut world = World::stopped(options);
        world.start(&[]).await;
        world
    }

    /// A world whose daemon was not started yet.
    pub fn stopped(options: Options) -> World {
        let dir = tempfile::Builder::new()
            .prefix("vela-test-")
            .tempdir()
            .unwrap();
        // Users of apps pass through it.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let data_dir = options.data_dir.unwrap_or_else(|| dir.path().join("data"));
        let port = options.ports.map_or_else(free_port, |(http, _)| http);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let https = options
            .ports
            .map(|(_, https)| format!("https_port = {https}\n"));
        let mut config = format!(
            "data_dir = {data_dir:?}\nsocket = {:?}\n[proxy]\nbind = \"127.0.0.1\"\nhttp_port = {}\n{}[apps]\nisolate = {}\n",
            dir.path().join("vela.sock"),
            addr.port(),
            https.unwrap_or_default(),
            options.isolate,
        );
        writeln!(config, "{}", options.config).unwrap();
        std::fs::write(dir.path().join("server.toml"), config).unwrap();
        World {
            dir,
            data_dir,
            addr,
            daemon: None,
        }
    }

    /// Starts the daemon with more variables in its environment, and waits until it answers. Gives the time from its
    /// start to its first answer on the control socket.
    pub async fn start(&mut self, env: &[(&str, &str)]) -> Duration {
        let began = Instant::now();
        self.spawn(env);
        let client = self.client();
        while client.version().await.is_err() {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the daemon ended with {ended:?}:\n{}",
                self.daemon_log()
            );
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the daemon is silent:\n{}",
                self.daemon_log()
            );
            sleep(Duration::from_millis(2)).await;
        }
        began.elapsed()
    }

    /// Starts the daemon and does not wait.
    pub fn spawn(&mut self, env: &[(&str, &str)]) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("daemon.log"))
            .unwrap();
        let child = Command::new(program())
            .args(["serve", "--config"])
            .arg(self.dir.path().join("server.toml"))
            .env_remove("NOTIFY_SOCKET")
            // By which the daemon's own processes are told from others.
            .env("VELA_TEST_WORLD", self.dir.path())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(child);
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon
            .as_ref()
            .and_then(Child::id)
            .expect("the daemon was started and has not ended")
    }

    /// Kills the daemon as a crash does, and waits until it is gone.
    pub async fn kill_daemon(&mut self) {
        kill(self.daemon_pid(), Signal::KILL);
        self.daemon_ended().await;
    }

    /// Waits until the daemon has ended by itself, and gives its exit code; nothing if a signal ended it.
    pub async fn daemon_ended(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), daemon.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("the daemon does not end:\n{}", self.daemon_log()))
            .unwrap()
            .code()
    }

    /// Stops the daemon in order, and waits; gives its exit code.
    pub async fn stop_daemon(&mut self) -> Option<i32> {
        kill(self.daemon_pid(), Signal::TERM);
        self.daemon_ended().await
    }

    /// What the daemon wrote.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }

    /// The world's own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory of one app.
    pub fn app_dir(&self, app: &str) -> PathBuf {
        self.data_dir.join("apps").join(app)
    }

    /// The daemon's control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("vela.sock")
    }

    /// Where the proxy listens.
    pub fn http(&self) -> SocketAddr {
        self.addr
    }

    /// A client of the daemon's API.
    pub fn client(&self) -> Client {
        Client::new(Arc::new(UnixTransport::new(self.socket())))
    }

    /// The `vela` command, set up to talk to this daemon and to nobody else.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        command
            .env("VELA_SERVER", format!("unix://{}", self.socket().display()))
            .env("NO_COLOR", "1")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs `vela` with these arguments.
    pub async fn vela(&self, args: &[&str]) -> Output {
        let output =
            tokio::time::timeout(Duration::from_secs(120), self.command().args(args).output())
                .await;
        output
            .unwrap_or_else(|_| panic!("vela {args:?} does not end"))
            .unwrap()
            .into()
    }

    /// `vela deploy` of a release.
    pub async fn deploy(&self, release: &Release) -> Output {
        let (manifest, files) = (release.manifest(), release.files());
        self.vela(&[
            "deploy",
            "-m",
            manifest.to_str().unwrap(),
            files.to_str().unwrap(),
        ])
        .await
    }

    /// The app's state.
    pub async fn status(&self, app: &str) -> AppStatus {
        self.client().status(app).await.unwrap()
    }

    /// The release that the link names.
    pub fn current(&self, app: &str) -> Option<String> {
        let link = std::fs::read_link(self.app_dir(app).join("current")).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    /// The names in a directory of an app, sorted; hidden ones included.
    pub fn names(&self, app: &str, dir: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.app_dir(app).join(dir)) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Waits until nothing is staged. An upload goes with the end of its operation, a moment after the client has
    /// heard of it.
    #[track_caller]
    pub fn nothing_staged(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let (staging, began) = (self.data_dir.join("staging"), Instant::now());
            while std::fs::read_dir(&staging).unwrap().count() > 0 {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "{caller}: something stays staged"
                );
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// How many file descriptors the daemon has open.
    pub fn daemon_fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.daemon_pid()))
            .unwrap()
            .count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Whatever the test did, nothing of it goes on: the daemon first, so that it starts nothing again, then the
        // apps with their shims.
        if let Some(pid) = self.daemon.as_ref().and_then(Child::id) {
            kill(pid, Signal::KILL);
        }
        let mut left = processes_of(&self.data_dir);
        for shim in shims_of(&self.data_dir) {
            left.push(shim);
            left.extend(descendants_of(shim));
        }
        for pid in left {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            // It may have ended by itself meanwhile.
            rustix::process::kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

/// A port of neither the kernel's ephemeral range, where connections take theirs, nor the range of the apps.
/// Never twice the same: a daemon that is down for a while comes back to its own.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    let start = uuid::Uuid::new_v4().as_u128() % 9000;
    let port = (0..9000)
        .map(|offset| 21_000 + u16::try_from((start + offset) % 9000).unwrap())
        .filter(|port| !given.contains(port))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of nine thousand ports is free");
    given.insert(port);
    port
}
