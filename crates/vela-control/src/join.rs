use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::socket_path;
use crate::unix::{SocketFailure, connect_first};

/// The words with which [`join`] says on its standard output what came of it, before the first byte of the daemon.
///
/// A login shell that prints something of its own comes before, so the reader looks for the whole line, and a line
/// that the shell has not ended is ended here.
pub(crate) const READY: &str = "vela-join 1 ready";
pub(crate) const ABSENT: &str = "vela-join 1 absent ";
pub(crate) const DENIED: &str = "vela-join 1 denied ";

/// Why [`join`] ended before it was through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No daemon, or no permission; standard output says which to the client as well.
    #[error("cannot open {}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of the streams broke.
    #[error("the stream to the daemon broke")]
    Copy(#[source] io::Error),
}

/// Joins `stdin` and `stdout` to the daemon's socket: what the hidden subcommand `vela join` does on a server whose
/// SSH server forwards to no sockets, or whose user needs `sudo` to open it.
///
/// Without a `socket` it is this user's own daemon, else the system's. Ends when either side does.
pub async fn join(
    socket: Option<PathBuf>,
    mut stdin: impl AsyncRead + Unpin,
    mut stdout: impl AsyncWrite + Unpin,
) -> Result<(), JoinError> {
    let sockets = match socket {
        Some(socket) => vec![socket],
        None => socket_path::candidates(),
    };
    let daemon = match connect_first(&sockets).await {
        Ok(daemon) => daemon,
        Err(failure) => {
            say(&mut stdout, &verdict(&failure)).await?;
            let SocketFailure { socket, source } = failure;
            return Err(JoinError::Socket { socket, source });
        }
    };
    say(&mut stdout, READY).await?;
    let (mut from_daemon, mut to_daemon) = daemon.into_split();
    let up = async {
        tokio::io::copy(&mut stdin, &mut to_daemon).await?;
        to_daemon.shutdown().await
    };
    let down = async {
        tokio::io::copy(&mut from_daemon, &mut stdout).await?;
        stdout.flush().await
    };
    tokio::pin!(up, down);
    // The client that closes its side may still wait for an answer; a daemon that closes has said all.
    let ended = tokio::select! {
        ended = &mut down => ended,
        ended = &mut up => match ended {
            Ok(()) => down.await,
            Err(error) => Err(error),
        },
    };
    ended.map_err(JoinError::Copy)
}

fn verdict(failure: &SocketFailure) -> String {
    let word = match failure.is_denied() {
        true => DENIED,
        false => ABSENT,
    };
    format!("{word}{}", failure.socket.display())
}

async fn say(stdout: &mut (impl AsyncWrite + Unpin), line: &str) -> Result<(), JoinError> {
    let line = format!("\n{line}\n");
    stdout
        .write_all(line.as_bytes())
        .await
        .map_err(JoinError::Copy)?;
    stdout.flush().await.map_err(JoinError::Copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn it_says_ready_and_then_only_what_the_daemon_says() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).await.unwrap();
            stream
                .write_all(asked.to_uppercase().as_bytes())
                .await
                .unwrap();
        });
        let mut out = Vec::new();
        join(Some(socket), &b"question"[..], &mut out)
            .await
            .unwrap();
        assert_eq!(out, b"\nvela-join 1 ready\nQUESTION");
        daemon.await.unwrap();
    }

    #[tokio::test]
    async fn it_says_that_there_is_no_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let mut out = Vec::new();
        let error = join(Some(socket.clone()), &b""[..], &mut out)
            .await
            .unwrap_err();
        assert!(matches!(error, JoinError::Socket { .. }), "{error}");
        let line = format!("\nvela-join 1 absent {}\n", socket.display());
        assert_eq!(String::from_utf8(out).unwrap(), line);
    }
}
