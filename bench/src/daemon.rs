use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::{App, Operation, Result};

/// The host of the app that serves.
pub const HOST: &str = "bench.localhost";

/// A daemon in a directory of its own.
#[derive(Debug)]
pub struct Daemon {
    vela: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
    /// Where it serves HTTP.
    pub addr: SocketAddr,
}

impl Daemon {
    /// Starts `vela serve`.
    pub fn start(vela: &Path, dir: &Path) -> Result<Daemon> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = free.local_addr()?;
        drop(free);
        let config = format!(
            "data_dir = \"{dir}/data\"\nsocket = \"{dir}/vela.sock\"\n\
             [proxy]\nbind = \"127.0.0.1\"\nhttp_port = {port}\n[apps]\nisolate = false\n",
            dir = dir.display(),
            port = addr.port(),
        );
        fs::write(dir.join("server.toml"), config)?;
        let mut daemon = Daemon {
            vela: vela.to_owned(),
            dir: dir.to_owned(),
            child: None,
            addr,
        };
        daemon.spawn()?;
        // Its first answer, of no app: the control socket is open by then.
        while daemon.status("none").is_err() {
            std::thread::sleep(std::time::Duration::from_millis(5));
            if let Some(Some(status)) = daemon.child.as_mut().map(Child::try_wait).transpose()? {
                let log = fs::read_to_string(dir.join("daemon.log"))?;
                return Err(format!("the daemon ended with {status}: {log}").into());
            }
        }
        Ok(daemon)
    }

    /// Starts it again, after [`kill`](Self::kill); returns when that began.
    pub fn spawn(&mut self) -> Result<Instant> {
        let log = File::create(self.dir.join("daemon.log"))?;
        let begin = Instant::now();
        let child = Command::new(&self.vela)
            .args(["serve", "--stop-apps", "--config"])
            .arg(self.dir.join("server.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(begin)
    }

    /// Kills it, as `kill -9` does; its apps go on.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Its address for a client on this machine.
    pub fn local_address(&self) -> String {
        format!("unix://{}/vela.sock", self.dir.display())
    }

    /// Its address through an SSH server that is called `host`.
    pub fn ssh_address(&self, host: &str) -> String {
        format!("ssh://{host}{}/vela.sock", self.dir.display())
    }

    /// `vela deploy`, by the control socket at `address`.
    pub fn deploy(&self, app: &App, address: &str, ssh_config: Option<&Path>) -> Result<Operation> {
        let mut command = Command::new(&self.vela);
        command
            .args(["deploy", "--json", "--server", address, "--manifest"])
            .arg(&app.manifest)
            .arg(&app.artifact);
        if let Some(config) = ssh_config {
            command.env("VELA_SSH_CONFIG", config);
        }
        Operation::watch(command)
    }

    /// `vela remove --purge`: the app, and whatever its services hold for it.
    pub fn purge(&self, app: &App) -> Result<()> {
        let status = Command::new(&self.vela)
            .args(["remove", app.name, "--purge", "--yes", "--quiet"])
            .args(["--server", &self.local_address()])
            .status()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("vela remove: {status}").into()),
        }
    }

    /// Where the app keeps its data.
    pub fn app_data(&self, app: &App) -> PathBuf {
        self.dir.join("data/apps").join(app.name).join("data")
    }

    /// What `vela status` says, or nothing when there is no such app.
    fn status(&self, app: &str) -> Result<()> {
        let status = Command::new(&self.vela)
            .args(["status", "--json", "--server", &self.local_address(), app])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        match status.code() {
            // The daemon answered, if only that it knows no such app.
            Some(0 | 1) => Ok(()),
            _ => Err(format!("vela status: {status}").into()),
        }
    }
}

impl Drop for Daemon {
    /// Stops the apps with it.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let asked = Pid::from_raw(child.id() as i32)
                .is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
            if !asked || child.wait().is_err() {
                // It ended before: there is nothing to stop.
                drop(child.kill());
            }
        }
        // Left to the system's cleaning of /tmp, if not even its owner can do that.
        drop(make_writable(&self.dir.join("data")));
    }
}

/// Releases are sealed: only root could remove what is in them as they are.
fn make_writable(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}
