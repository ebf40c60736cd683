use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::settings::Settings;

/// How long an answer may take. Most take less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer: all accounts, by name.
const LONGEST: u64 = 16 << 20;

/// Where the server says how it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Monitor<'a> {
    settings: &'a Settings,
}

impl<'a> Monitor<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings }
    }

    /// Whether the server says that it is well, JetStream included.
    pub(super) async fn health(self) -> io::Result<()> {
        let (status, body) = self.request("healthz").await?;
        if status == 200 {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&body);
        Err(io::Error::other(format!(
            "/healthz answers {status}: {body}"
        )))
    }

    /// When it has read its configuration: another time after each reload that has succeeded.
    pub(super) async fn configured_at(self) -> io::Result<String> {
        #[derive(Deserialize)]
        struct Varz {
            config_load_time: String,
        }
        let varz: Varz = self.read("varz").await?;
        Ok(varz.config_load_time)
    }

    /// Whether JetStream still has anything of this account in use.
    pub(super) async fn has_jetstream(self, account: &str) -> io::Result<bool> {
        #[derive(Deserialize)]
        struct Jsz {
            #[serde(default)]
            account_details: Vec<Account>,
        }
        #[derive(Deserialize)]
        struct Account {
            name: String,
        }
        // 2.9 gives 1024 at a time.
        const PAGE: usize = 1024;
        for page in 0.. {
            let offset = page * PAGE;
            let jsz: Jsz = self
                .read(&format!("jsz?accounts=true&limit={PAGE}&offset={offset}"))
                .await?;
            if jsz
                .account_details
                .iter()
                .any(|found| found.name == account)
            {
                return Ok(true);
            }
            if jsz.account_details.len() < PAGE {
                break;
            }
        }
        Ok(false)
    }

    async fn read<T: DeserializeOwned>(self, what: &str) -> io::Result<T> {
        let (status, body) = self.request(what).await?;
        if status != 200 {
            return Err(io::Error::other(format!("/{what} answers {status}")));
        }
        serde_json::from_slice(&body).map_err(io::Error::from)
    }

    async fn request(self, what: &str) -> io::Result<(u16, Vec<u8>)> {
        timeout(PATIENCE, self.exchange(what))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// HTTP/1.0, so that the answer ends with the connection and is in no pieces.
    async fn exchange(self, what: &str) -> io::Result<(u16, Vec<u8>)> {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.settings.monitor_port)).await?;
        let path = self.settings.monitor_path();
        let request = format!("GET /{path}/{what} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        split(&answer).ok_or_else(|| io::Error::other("what answers is no NATS server"))
    }
}

/// The status and the body of an answer.
pub(crate) fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?;
    let is_number = status.bytes().all(|byte| byte.is_ascii_digit());
    let status = status.parse().ok().filter(|_| is_number)?;
    Some((status, answer[end + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{}";
        assert_eq!(split(answer), Some((503, b"{}".to_vec())));
        for answer in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 2",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 +20 OK\r\n\r\n",
        ] {
            assert_eq!(split(answer), None);
        }
    }
}
