use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1);

/// The version that is measured.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// Who runs Postgres for root, for whom it does not run.
const POSTGRES_USER: &str = "postgres";

/// What a database costs whoever makes it by hand: `initdb`, a start until it accepts connections, then a role and a
/// database by one `psql` each. `dir` must not be there yet.
pub fn postgres_by_hand(dir: &Path) -> Result<Duration> {
    let user = match rustix::process::geteuid().is_root() {
        true => Some((id("-u")?, id("-g")?)),
        false => None,
    };
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    if let Some((uid, gid)) = user {
        chown(dir, Some(uid), Some(gid))?;
    }
    let log = File::create(dir.with_extension("log"))?;
    let data = dir.join("data");
    let port = free_port()?.to_string();
    let command = |program: &str| -> Result<Command> {
        let mut command = Command::new(Path::new(POSTGRES).join(program));
        command
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        Ok(command)
    };
    let begin = Instant::now();
    succeed(
        command("initdb")?
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .arg("-D")
            .arg(&data),
    )?;
    let server = command("postgres")?
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(dir)
        .args(["-h", "127.0.0.1", "-p", &port])
        .spawn()?;
    let server = Server(server);
    let at = |command: &mut Command, program: &str| {
        command.arg("-h").arg(dir).args(["-p", &port]);
        if program == "psql" {
            command.args(["-U", "postgres", "-d", "postgres", "-q", "-c"]);
        }
    };
    let deadline = begin + PATIENCE;
    loop {
        let mut ready = command("pg_isready")?;
        at(&mut ready, "pg_isready");
        if ready.status()?.success() {
            break;
        }
        if Instant::now() > deadline {
            return Err("postgres does not accept connections".into());
        }
        std::thread::sleep(PAUSE);
    }
    for statement in [
        "CREATE ROLE bench LOGIN PASSWORD 'bench'",
        "CREATE DATABASE bench OWNER bench",
    ] {
        let mut psql = command("psql")?;
        at(&mut psql, "psql");
        succeed(psql.arg(statement))?;
    }
    let took = begin.elapsed();
    drop(server);
    fs::remove_dir_all(dir)?;
    Ok(took)
}

/// What a NATS with JetStream costs whoever starts it by hand: from its exec to its first 200 on `/healthz`. `dir` must
/// not be there yet.
pub fn nats_by_hand(dir: &Path) -> Result<Duration> {
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    let log = File::create(dir.with_extension("log"))?;
    let (port, monitor) = (free_port()?, free_port()?);
    let begin = Instant::now();
    let server = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
        .arg(dir.join("store"))
        .args(["-m", &monitor.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let server = Server(server);
    while !is_healthy(monitor) {
        if begin.elapsed() > PATIENCE {
            return Err("nats-server is not healthy".into());
        }
        std::thread::sleep(PAUSE);
    }
    let took = begin.elapsed();
    drop(server);
    fs::remove_dir_all(dir)?;
    Ok(took)
}

/// Ends with this value, all of its files of no further use.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It ended before, or ends now.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /healthz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {status}").into()),
    }
}

fn free_port() -> Result<u16> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(free.local_addr()?.port())
}

fn id(which: &str) -> Result<u32> {
    let output = Command::new("id").args([which, POSTGRES_USER]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
