use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::config::arguments;
use super::joining::{Word, read_word, why_silent};
use super::link::Ending;
use super::{SshOptions, SshTarget};
use crate::transport::{Io, Transport, TransportError};

/// The status with which `ssh` says that it failed itself, and not the remote command.
const SSH_FAILED: i32 = 255;
/// How long to wait for the exit status of an `ssh` that has closed its output.
const EXIT: Duration = Duration::from_secs(2);

/// SSH spoken by the system's `ssh`, which runs `vela join` on the server: for keys and methods that libssh2 does not
/// know, at the price of a process and a login for each stream (unless the user's ControlMaster shares them).
#[derive(Debug, Clone)]
pub struct SystemSshTransport {
    target: SshTarget,
    options: SshOptions,
}

impl SystemSshTransport {
    /// To the daemon at `target`; nothing is opened yet.
    pub fn new(target: SshTarget, options: SshOptions) -> SystemSshTransport {
        SystemSshTransport { target, options }
    }

    async fn join(&self, sudo: bool) -> Result<Box<dyn Io>, TransportError> {
        let command = self
            .target
            .join_command(&self.options.remote_program, sudo)?;
        let mut stream = self.start(&command)?;
        let address = self.address();
        match read_word(&mut stream).await {
            Ok(Word::Ready) => {
                stream.drain_stderr();
                Ok(Box::new(stream))
            }
            Ok(Word::Absent(socket)) => Err(TransportError::NoDaemon { address, socket }),
            Ok(Word::Denied(socket)) => Err(TransportError::Denied { address, socket }),
            Ok(Word::Silent) | Err(_) => {
                let ending = stream.end().await;
                let host = &self.target.host;
                match ending.status {
                    Some(SSH_FAILED) => Err(TransportError::Ssh {
                        host: host.clone(),
                        detail: ending.stderr.trim().to_owned(),
                    }),
                    _ => Err(why_silent(host, &command, &ending)),
                }
            }
        }
    }

    fn start(&self, remote: &str) -> Result<JoinStream, TransportError> {
        let mut command = Command::new(&self.options.program);
        let timeout = self.options.connect_timeout.as_secs().max(1);
        let alive = self.options.keepalive.as_secs().max(1);
        command
            .args(["-T", "-o", "BatchMode=yes"])
            .args(["-o", &format!("ConnectTimeout={timeout}")])
            .args(["-o", &format!("ServerAliveInterval={alive}")])
            .args(arguments(&self.target, &self.options));
        for file in &self.options.identity_files {
            command.arg("-i").arg(file);
        }
        if let Some(file) = &self.options.known_hosts {
            command
                .arg("-o")
                .arg(format!("UserKnownHostsFile={}", file.display()));
        }
        command.arg("--").arg(&self.target.host).arg(remote);
        let failed = |source| TransportError::Program {
            program: self.options.program.display().to_string(),
            source,
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        Ok(JoinStream {
            child,
            stdin: Some(stdin),
            stdout,
            stderr: Some(stderr),
        })
    }
}

#[async_trait]
impl Transport for SystemSshTransport {
    async fn connect(&self) -> Result<Box<dyn Io>, TransportError> {
        match self.join(false).await {
            // Root may do what the user may not; what `sudo` says against it is no news.
            Err(denied @ TransportError::Denied { .. }) => {
                self.join(true).await.map_err(|_| denied)
            }
            result => result,
        }
    }

    fn address(&self) -> String {
        self.target.to_string()
    }
}

/// The standard streams of an `ssh`, which ends with them.
#[derive(Debug)]
struct JoinStream {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
}

impl JoinStream {
    /// Keeps standard error from filling up.
    fn drain_stderr(&mut self) {
        if let Some(mut stderr) = self.stderr.take() {
            tokio::spawn(async move {
                if let Err(error) = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await {
                    tracing::trace!(%error, "the standard error of ssh ended");
                }
            });
        }
    }

    async fn end(mut self) -> Ending {
        drop(self.stdin.take());
        let mut text = Vec::new();
        let gather = async {
            if let Some(stderr) = self.stderr.take() {
                // What was read before it broke is what is known.
                stderr
                    .take(4096)
                    .read_to_end(&mut text)
                    .await
                    .unwrap_or_default();
            }
            self.child.wait().await
        };
        let status = tokio::time::timeout(EXIT, gather).await;
        Ending {
            status: status
                .ok()
                .and_then(Result::ok)
                .and_then(|status| status.code()),
            signal: None,
            stderr: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

impl AsyncRead for JoinStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for JoinStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe is shut by being closed.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}
