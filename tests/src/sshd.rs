use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{children_of, descendants_of};
use crate::release::program;
use crate::{Account, Output, Release};

/// By which the processes of remote commands are told from others.
const MARK: &str = "VELA_TEST_SSHD";

/// What a server is made with.
#[derive(Debug, Default)]
pub struct SshdOptions {
    /// Lines for its configuration.
    pub config: String,
    /// Nobody has installed `vela` there.
    pub without_vela: bool,
    /// The socket that a `vela` there takes for the daemon's when it is told none.
    pub socket: Option<PathBuf>,
    /// Who logs in there, if not the user who runs the tests.
    pub account: Option<Account>,
}

/// A real SSH server on 127.0.0.1, with keys of its own, and the client's side of it: a configuration in which it is
/// called `prod`, a key that it lets in, and a `known_hosts` that has its key.
///
/// A remote command finds `vela`, which is the program under test, and no other program. What the server started ends
/// with it.
#[derive(Debug)]
pub struct Sshd {
    dir: TempDir,
    port: u16,
    user: String,
    child: Child,
    #[expect(dead_code, reason = "removed when the server has ended")]
    account: Option<Account>,
}

impl Sshd {
    /// Starts one, which lets its clients do everything.
    pub fn new() -> Sshd {
        Sshd::with(SshdOptions::default())
    }

    /// Starts one in other circumstances, and waits until it listens.
    pub fn with(options: SshdOptions) -> Sshd {
        let dir = tempfile::Builder::new()
            .prefix("vela-test-sshd-")
            .tempdir()
            .unwrap();
        // Others log in here, too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["bin", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        keygen(&dir.path().join("host_key"));
        keygen(&dir.path().join("id"));
        let keys = dir.path().join("authorized_keys");
        fs::copy(dir.path().join("id.pub"), keys).unwrap();
        if !options.without_vela {
            install(&dir.path().join("bin/vela"), options.account.is_some());
        }
        if geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let (child, port) = (0..20)
            .find_map(|_| spawn(dir.path(), &options))
            .expect("one of twenty free ports stays free");
        let sshd = Sshd {
            port,
            user: match &options.account {
                Some(account) => account.name().to_owned(),
                None => user_name(),
            },
            child,
            account: options.account,
            dir,
        };
        sshd.reach_by(port);
        sshd
    }

    /// From here on its clients reach it by another port, under which its key is known, too.
    pub fn reach_by(&self, port: u16) {
        let (d, user) = (self.dir.path().display(), &self.user);
        let config = format!(
            "Host prod\n HostName 127.0.0.1\n Port {port}\n User {user}\n\
             Host *\n IdentityFile {d}/id\n IdentitiesOnly yes\n IdentityAgent none\n \
             UserKnownHostsFile {d}/known_hosts\n GlobalKnownHostsFile /dev/null\n"
        );
        fs::write(self.path("config"), config).unwrap();
        let key = fs::read_to_string(self.path("host_key.pub")).unwrap();
        fs::write(self.known_hosts(), format!("[127.0.0.1]:{port} {key}")).unwrap();
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A file of the server or of its clients.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The servers that its clients know.
    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// The address of the daemon behind it that listens on `socket`.
    pub fn address(&self, socket: &Path) -> String {
        format!("ssh://prod{}", socket.display())
    }

    /// The `vela` command of a user who knows this server and nothing else.
    pub fn command(&self) -> Command {
        self.run(program())
    }

    /// Another program of that user.
    pub fn run(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("VELA_SSH_CONFIG", self.path("config"))
            .env("NO_COLOR", "1")
            .env_remove("VELA_SERVER")
            .env_remove("VELA_SSH")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs `vela` with these arguments.
    pub async fn vela(&self, args: &[&str]) -> Output {
        self.finish(self.command().args(args)).await
    }

    /// `vela deploy` of a release whose manifest names the server.
    pub async fn deploy(&self, release: &Release) -> Output {
        self.finish(&mut self.deploying(release)).await
    }

    /// The same, to be started.
    pub fn deploying(&self, release: &Release) -> Command {
        let mut command = self.command();
        command
            .arg("deploy")
            .arg("-m")
            .args([release.manifest(), release.files()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Waits for a command.
    pub async fn finish(&self, command: &mut Command) -> Output {
        let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
        output
            .unwrap_or_else(|_| panic!("{command:?} does not end:\n{}", self.log()))
            .unwrap()
            .into()
    }

    /// The remote commands that run.
    pub fn commands(&self) -> Vec<u32> {
        children_of(MARK, self.dir.path().to_str().unwrap())
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Default for Sshd {
    fn default() -> Sshd {
        Sshd::new()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let sessions = [descendants_of(self.child.id()), self.commands()].concat();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for pid in sessions {
            let pid = Pid::from_raw(pid.cast_signed()).unwrap();
            // It may have ended by itself meanwhile.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

/// Makes a key pair, `path` and `path.pub`.
pub fn keygen(path: &Path) {
    let status = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(path)
        .status()
        .expect("openssh-client is installed");
    assert!(status.success());
}

fn install(path: &Path, for_others: bool) {
    // Others may not look into the directory that it was built in.
    match for_others {
        false => symlink(program(), path).unwrap(),
        true => fs::hard_link(program(), path)
            .or_else(|_| fs::copy(program(), path).map(drop))
            .unwrap(),
    }
}

/// Starts one on a port that the system chose; nothing if somebody else took the port in between.
fn spawn(dir: &Path, options: &SshdOptions) -> Option<(Child, u16)> {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let d = dir.display();
    let socket = match &options.socket {
        Some(socket) => format!("VELA_SOCKET={}", socket.display()),
        None => String::new(),
    };
    let text = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {d}/host_key\nPidFile none\n\
         AuthorizedKeysFile {d}/authorized_keys\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         UsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxStartups 100\n\
         SetEnv PATH={d}/bin HOME={d}/home {MARK}={d} {socket}\n{}\n",
        options.config
    );
    let file = dir.join("sshd_config");
    fs::write(&file, text).unwrap();
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut child = std::process::Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("openssh-server is installed");
    let began = Instant::now();
    loop {
        let log = fs::read_to_string(dir.join("log")).unwrap();
        if log.contains("Server listening") {
            return Some((child, port));
        }
        if child.try_wait().unwrap().is_some() {
            assert!(log.contains("Address already in use"), "{log}");
            return None;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{log}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn user_name() -> String {
    let output = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
