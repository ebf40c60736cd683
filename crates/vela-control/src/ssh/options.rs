use std::path::PathBuf;
use std::time::Duration;

/// How an SSH connection is made, where it differs from what the user's own configuration says.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// The `ssh` that resolves the configuration (`ssh -G`), jumps over hosts (`ssh -W`), and is the whole transport of
    /// a [`SystemSshTransport`](crate::SystemSshTransport).
    pub program: PathBuf,
    /// Read instead of the user's and the system's configuration: `ssh -F`.
    pub config_file: Option<PathBuf>,
    /// Keys that are tried before the configured ones.
    pub identity_files: Vec<PathBuf>,
    /// The known_hosts file that is used instead of the configured ones.
    pub known_hosts: Option<PathBuf>,
    /// The `vela` of the server, for when its SSH server forwards to no sockets.
    pub remote_program: PathBuf,
    /// How long to wait for the server before the connection is up, unless the configuration says otherwise.
    pub connect_timeout: Duration,
    /// How often to look whether the server is still there. After three times without a sign the connection is lost.
    pub keepalive: Duration,
}

impl Default for SshOptions {
    fn default() -> SshOptions {
        SshOptions {
            program: "ssh".into(),
            config_file: None,
            identity_files: Vec::new(),
            known_hosts: None,
            remote_program: "vela".into(),
            connect_timeout: Duration::from_secs(15),
            keepalive: Duration::from_secs(15),
        }
    }
}
