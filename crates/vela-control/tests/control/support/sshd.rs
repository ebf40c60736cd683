use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use vela_control::{SshOptions, SshTarget};

/// An SSH server with keys, users and configuration of its own. Ends with this value.
#[derive(Debug)]
pub(crate) struct Sshd {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    pub(crate) user: String,
    child: Child,
}

impl Sshd {
    /// Starts one with further lines of configuration.
    pub(crate) fn start(configuration: &str) -> Sshd {
        let dir = tempfile::tempdir().unwrap();
        // Commands of other users look into it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        keygen(&dir.path().join("host_key"), "ed25519", "");
        keygen(&dir.path().join("id"), "ed25519", "");
        fs::copy(
            dir.path().join("id.pub"),
            dir.path().join("authorized_keys"),
        )
        .unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let (child, port) = (0..20)
            .find_map(|_| spawn(dir.path(), configuration))
            .expect("sshd starts on a free port");
        let sshd = Sshd {
            port,
            child,
            user: user_name(),
            dir,
        };
        sshd.trust_host_key();
        fs::write(
            sshd.path("config"),
            "IdentityAgent none\nIdentitiesOnly yes\n",
        )
        .unwrap();
        sshd
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the `known_hosts` of the client says of this server's key.
    pub(crate) fn known_line(&self) -> String {
        let public = fs::read_to_string(self.path("host_key.pub")).unwrap();
        format!("[127.0.0.1]:{} {public}", self.port)
    }

    pub(crate) fn trust_host_key(&self) {
        fs::write(self.path("known_hosts"), self.known_line()).unwrap();
    }

    /// Options that touch nothing of the user who runs the tests.
    pub(crate) fn options(&self) -> SshOptions {
        SshOptions {
            config_file: Some(self.path("config")),
            identity_files: vec![self.path("id")],
            known_hosts: Some(self.path("known_hosts")),
            ..SshOptions::default()
        }
    }

    pub(crate) fn target(&self, socket: &Path) -> SshTarget {
        SshTarget {
            user: Some(self.user.clone()),
            host: "127.0.0.1".into(),
            port: Some(self.port),
            socket: Some(socket.to_owned()),
        }
    }

    /// Puts a program on the PATH of remote commands.
    pub(crate) fn install(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Makes a key pair, `path` and `path.pub`.
pub(crate) fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Starts sshd on a port that the system chose; nothing if somebody else took the port in between.
fn spawn(dir: &Path, configuration: &str) -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let d = dir.display();
    let text = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {d}/host_key\nPidFile none\n\
         AuthorizedKeysFile {d}/authorized_keys\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         UsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxStartups 100\n\
         SetEnv PATH={d}/bin:/usr/local/bin:/usr/bin:/bin HOME={d}\n{configuration}\n"
    );
    let file = dir.join("sshd_config");
    fs::write(&file, text).unwrap();
    let mut child = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssh-server is installed");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in lines.by_ref() {
        if line.unwrap().contains("Server listening") {
            // Its log must be read for it to go on.
            std::thread::spawn(move || lines.for_each(drop));
            return Some((child, port));
        }
    }
    child.wait().unwrap();
    None
}

fn user_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
