//! A private Postgres on a port of its own, gone at the end of the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// The superuser's password.
const ROOT_PASSWORD: &str = "root-password";

pub(crate) struct Cluster {
    pub(crate) port: u16,
    binaries: PathBuf,
    server: Child,
    directory: TempDir,
}

impl Cluster {
    /// Starts a server that asks everybody on TCP for a password, and lets everybody in on the
    /// socket.
    pub(crate) fn start() -> Self {
        let binaries = binaries();
        let directory = TempDir::new().unwrap();
        if let Some((uid, gid)) = postgres_user() {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = directory.path().join("data");
        let password_file = directory.path().join("password");
        fs::write(&password_file, ROOT_PASSWORD).unwrap();

        let initialised = as_postgres(&binaries.join("initdb"), directory.path())
            .args([
                "--username=root_user",
                "--auth-host=scram-sha-256",
                "--auth-local=trust",
            ])
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--pwfile"])
            .arg(&password_file)
            .arg(&data)
            .output()
            .unwrap();
        assert!(initialised.status.success(), "{initialised:?}");

        // The port was free a moment ago; if it is taken now, another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            if let Some(server) = serve(&binaries, directory.path(), &data, port) {
                return Self {
                    port,
                    binaries,
                    server,
                    directory,
                };
            }
        }
        panic!("postgres does not start");
    }

    /// The directory of the server's socket.
    pub(crate) fn socket(&self) -> &Path {
        self.directory.path()
    }

    /// Runs SQL as the superuser.
    pub(crate) fn sql(&self, statement: &str) {
        let ran = self
            .psql(statement)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "root_user")
            .env("PGPASSWORD", ROOT_PASSWORD)
            .env("PGDATABASE", "postgres")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    /// A `psql` that runs `statement`, with nothing in its environment.
    pub(crate) fn psql(&self, statement: &str) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.env_clear()
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        psql
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT is an immediate shutdown, of the server's children too; SIGKILL would leave
        // shared memory behind.
        let pid = Pid::from_child(&self.server);
        kill_process(pid, Signal::QUIT).unwrap();
        self.server.wait().unwrap();
    }
}

fn serve(binaries: &Path, directory: &Path, data: &Path, port: u16) -> Option<Child> {
    let mut server = as_postgres(&binaries.join("postgres"), directory)
        .arg("-D")
        .arg(data)
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c"])
        .arg(format!("port={port}"))
        .arg("-c")
        .arg(format!("unix_socket_directories={}", directory.display()))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    let ready = log.any(|line| line.unwrap().contains("ready to accept connections"));
    if !ready {
        server.wait().unwrap();
        return None;
    }
    // The server dies of a log that nobody reads.
    std::thread::spawn(move || log.count());
    Some(server)
}

/// A command run by a user that Postgres accepts: anybody but root.
fn as_postgres(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_remove("PGDATA");
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// The ids of the user `postgres`, if this is root.
fn postgres_user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("there is a user `postgres`").split(':').skip(2);
    let mut id = || fields.next().unwrap().parse().unwrap();
    Some((id(), id()))
}

/// Where Debian keeps the newest server's programs, which are not in PATH.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
    versions
        .map(|version| version.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max()
        .expect("a server of postgresql is installed")
}
