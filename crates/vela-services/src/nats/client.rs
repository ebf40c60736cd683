use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::version::Version;

/// How long a server may take to say hello: it answers at once, or is no such server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a login did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    /// The server knows no such user, or another password.
    #[error("{0}")]
    Refused(String),
    /// There is no server, or no answer.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// Logs in at the server and leaves again; gives the server's version. The name and the password
/// are to be letters, digits, `_` and `-`.
pub(super) async fn login(
    port: u16,
    user: &str,
    password: &SecretString,
) -> Result<Option<Version>, LoginError> {
    timeout(PATIENCE, try_login(port, user, password))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

async fn try_login(
    port: u16,
    user: &str,
    password: &SecretString,
) -> Result<Option<Version>, LoginError> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    // What is no such server may say anything, and a lot of it.
    let mut stream = BufReader::new(read.take(64 << 10));
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let version = version(&line)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no NATS server"))?;

    let password = password.expose_secret();
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\
         \"name\":\"vela\",\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\nPING\r\n"
    );
    write.write_all(hello.as_bytes()).await?;
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if line.starts_with("PONG") {
            return Ok(version.parse().ok());
        }
        if let Some(error) = line.strip_prefix("-ERR ") {
            return Err(LoginError::Refused(error.trim().to_owned()));
        }
    }
}

/// The version that a server says it has, in its first line.
pub(crate) fn version(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Info {
        version: String,
    }
    let info: Info = serde_json::from_str(line.strip_prefix("INFO ")?).ok()?;
    Some(info.version)
}
