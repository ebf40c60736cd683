use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// An `sshd` on 127.0.0.1 that lets this user in by a key made for it.
#[derive(Debug)]
pub struct SshServer {
    child: Child,
    dir: PathBuf,
}

impl SshServer {
    /// Its name in the configuration of its clients.
    pub const HOST: &'static str = "bench-server";

    /// Starts it, with its files in `dir`.
    pub fn start(dir: &Path) -> Result<SshServer> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = free.local_addr()?.port();
        drop(free);
        let path = |name: &str| dir.join(name).display().to_string();
        for key in ["host_key", "user_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)])
                .status()?;
            if !made.success() {
                return Err(format!("ssh-keygen: {made}").into());
            }
        }
        let host_key = fs::read_to_string(dir.join("host_key.pub"))?;
        fs::write(
            dir.join("known_hosts"),
            format!("[127.0.0.1]:{port} {host_key}"),
        )?;
        let server = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_key}\nAuthorizedKeysFile {user_key}.pub\n\
             PidFile none\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n\
             Subsystem sftp internal-sftp\n",
            host_key = path("host_key"),
            user_key = path("user_key"),
        );
        fs::write(dir.join("sshd_config"), server)?;
        let user = Command::new("id").arg("-un").output()?.stdout;
        let client = format!(
            "Host {host}\nHostName 127.0.0.1\nPort {port}\nUser {user}\nIdentityFile {user_key}\n\
             IdentitiesOnly yes\nUserKnownHostsFile {known_hosts}\nStrictHostKeyChecking yes\nControlMaster no\n",
            host = SshServer::HOST,
            user = String::from_utf8(user)?.trim(),
            user_key = path("user_key"),
            known_hosts = path("known_hosts"),
        );
        fs::write(dir.join("ssh_config"), client)?;
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f", &path("sshd_config"), "-E", &path("sshd.log")])
            .stdin(Stdio::null())
            .spawn()?;
        let server = SshServer {
            child,
            dir: dir.to_owned(),
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                return Err(format!("sshd does not listen: {}", server.log()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// The configuration with which its clients reach it.
    pub fn config(&self) -> PathBuf {
        self.dir.join("ssh_config")
    }

    /// What a copy and a command cost without Vela: `scp` of `file`, then `ssh host true`.
    pub fn copy_and_run(&self, file: &Path) -> Result<Duration> {
        let config = self.config();
        let target = format!("{}:{}", SshServer::HOST, self.dir.join("copied").display());
        let begin = Instant::now();
        let commands = [
            Command::new("scp")
                .arg("-q")
                .arg("-F")
                .arg(&config)
                .arg(file)
                .arg(target)
                .status()?,
            Command::new("ssh")
                .arg("-F")
                .arg(&config)
                .args([SshServer::HOST, "true"])
                .status()?,
        ];
        let took = begin.elapsed();
        match commands.iter().find(|status| !status.success()) {
            None => Ok(took),
            Some(status) => Err(format!("scp or ssh: {status}\n{}", self.log()).into()),
        }
    }
}

impl SshServer {
    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("sshd.log")).unwrap_or_default()
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        // It ended before, or ends now.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
