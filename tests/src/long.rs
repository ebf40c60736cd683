use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest wait for anything on a long request.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that takes its time, on a connection of its own: a slow answer, an event stream or a WebSocket.
#[derive(Debug)]
pub struct Long {
    stream: TcpStream,
    received: Vec<u8>,
}

/// How a long request ended.
#[derive(Debug)]
pub struct Ended {
    /// Everything that came, head and framing included.
    pub received: Vec<u8>,
    /// When the connection ended.
    pub at: SystemTime,
    /// Whether it was reset.
    pub reset: bool,
}

impl Long {
    /// Asks, and does not wait.
    pub async fn get(addr: SocketAddr, host: &str, path: &str) -> Long {
        Long::send(addr, host, path, "connection: close\r\n").await
    }

    /// Opens a WebSocket, and waits for its first message.
    pub async fn websocket(addr: SocketAddr, host: &str, path: &str) -> Long {
        let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut long = Long::send(addr, host, path, upgrade).await;
        long.until(b"tick 0").await;
        long
    }

    async fn send(addr: SocketAddr, host: &str, path: &str, headers: &str) -> Long {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Long {
            stream,
            received: Vec::new(),
        }
    }

    /// Waits until `what` has come.
    pub async fn until(&mut self, what: &[u8]) {
        while !self.received.windows(what.len()).any(|seen| seen == what) {
            let read = self.stream.read_buf(&mut self.received);
            let read = timeout(PATIENCE, read).await;
            let read = read.unwrap_or_else(|_| panic!("silent: {}", self.text()));
            assert!(read.unwrap() > 0, "ended: {}", self.text());
        }
    }

    /// Waits until the other end ends it.
    pub async fn end(mut self) -> Ended {
        let rest = self.stream.read_to_end(&mut self.received);
        let rest = timeout(PATIENCE, rest).await;
        let rest = rest.unwrap_or_else(|_| panic!("it does not end: {}", self.text()));
        Ended {
            received: self.received,
            at: SystemTime::now(),
            reset: rest.is_err(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

impl Ended {
    /// What came, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}
