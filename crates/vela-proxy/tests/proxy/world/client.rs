use std::net::SocketAddr;

use tokio::io::AsyncBufReadExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LONG;

/// A client that sends what it is told, byte for byte.
pub(crate) struct Client {
    pub(crate) socket: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and header lines, as they came.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Client {
        let socket = TcpStream::connect(addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client {
            socket: BufReader::new(socket),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket
            .get_mut()
            .write_all(bytes.as_ref())
            .await
            .unwrap();
    }

    /// Sends what may not be taken any more.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.ok();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .await;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("a whole answer")
    }

    /// The next answer; an error when the connection ends before the answer does.
    pub(crate) async fn try_answer(&mut self) -> std::io::Result<Answer> {
        timeout(LONG, self.read_answer(true))
            .await
            .expect("an answer in time")
    }

    /// The answer to a HEAD request.
    pub(crate) async fn head_answer(&mut self) -> Answer {
        self.read_answer(false).await.unwrap()
    }

    pub(crate) async fn read_head(&mut self) -> std::io::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.socket.read_line(&mut head).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head)
    }

    async fn read_answer(&mut self, has_body: bool) -> std::io::Result<Answer> {
        let head = self.read_head().await?;
        let mut answer = Answer {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::new(),
        };
        if !has_body || answer.status == 101 || answer.status == 100 {
            return Ok(answer);
        }
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut size = String::new();
                if self.socket.read_line(&mut size).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                self.socket.read_exact(&mut chunk).await?;
                body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = answer.header("content-length") {
            body = vec![0; length.parse().unwrap()];
            self.socket.read_exact(&mut body).await?;
        } else if answer.status != 204 && answer.status != 304 {
            self.socket.read_to_end(&mut body).await?;
        }
        answer.body = String::from_utf8(body).unwrap();
        Ok(answer)
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end too.
        timeout(LONG, self.socket.read_to_end(&mut rest))
            .await
            .expect("an end")
            .ok();
        String::from_utf8_lossy(&rest).into_owned()
    }

    pub(crate) async fn read_exactly(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        timeout(LONG, self.socket.read_exact(&mut bytes))
            .await
            .expect("bytes in time")
            .unwrap();
        String::from_utf8(bytes).unwrap()
    }
}
