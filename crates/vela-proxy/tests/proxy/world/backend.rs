use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// An upstream that answers by path, and tells what it was sent. It dies with its connections.
pub(crate) struct Backend {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    tag: String,
    heads: Mutex<Vec<String>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// What `/slow` and `/stream` wait for, once each.
    gate: Semaphore,
}

impl Backend {
    pub(crate) async fn start(tag: &str) -> Backend {
        Backend::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), tag)
    }

    pub(crate) fn on(listener: TcpListener, tag: &str) -> Backend {
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tag: tag.to_owned(),
            heads: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Backend { addr, shared, task }
    }

    /// Lets as many waiting requests go on, those to come too.
    pub(crate) fn open_gate(&self, requests: usize) {
        self.shared.gate.add_permits(requests);
    }

    /// The request heads that have come so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    pub(crate) fn last_head(&self) -> String {
        self.heads().pop().expect("a request")
    }

    /// How many connections there were, those that have ended included.
    pub(crate) fn accepted_connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_requests(&self, count: usize) {
        let waiting = async {
            while self.heads().len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(super::LONG, waiting)
            .await
            .expect("requests in time");
    }

    pub(crate) async fn until_connections(&self, count: usize) {
        let waiting = async {
            while self.open_connections() != count {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(super::LONG, waiting).await;
        assert!(reached.is_ok(), "{} connections", self.open_connections());
    }

    /// Like kill -9: the listener and all connections are gone.
    pub(crate) async fn kill(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let open = Open(shared);
            // The proxy may go at any time: that is for the test to notice.
            connection(BufReader::new(socket), &open.0).await.ok();
        });
    }
}

struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(mut socket: BufReader<TcpStream>, shared: &Shared) -> std::io::Result<()> {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if socket.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        shared.heads.lock().unwrap().push(head.clone());
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let mut body = Vec::new();
        if !["/early", "/early-deaf", "/deaf"].contains(&path.as_str()) {
            if field("transfer-encoding").is_some() {
                let trailers;
                (body, trailers) = read_chunks(&mut socket).await?;
                let mut heads = shared.heads.lock().unwrap();
                heads.last_mut().unwrap().push_str(&trailers);
            } else if let Some(length) = field("content-length") {
                body = vec![0; length.parse().unwrap()];
                socket.read_exact(&mut body).await?;
            }
        }
        let plain = |body: &str| {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        match path.as_str() {
            "/slow" => {
                shared.gate.acquire().await.unwrap().forget();
                socket.write_all(plain(&shared.tag).as_bytes()).await?;
            }
            "/stream" => {
                socket
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
                    )
                    .await?;
                shared.gate.acquire().await.unwrap().forget();
                socket.write_all(b"4\r\nlast\r\n0\r\n\r\n").await?;
            }
            "/events" => {
                socket
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                          transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
                    )
                    .await?;
                // Until the proxy goes.
                socket.read_u8().await?;
                return Ok(());
            }
            "/echo" => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                socket.write_all(head.as_bytes()).await?;
                socket.write_all(&body).await?;
            }
            "/hop" => {
                socket
                    .write_all(
                        b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                          Proxy-Connection: x\r\nServer: own\r\nX-Kept: 1\r\ncontent-length: 2\r\n\r\nok",
                    )
                    .await?;
            }
            "/early" => {
                socket
                    .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
                    .await?;
            }
            "/early-deaf" => {
                socket
                    .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
                    .await?;
                std::future::pending().await
            }
            "/deaf" => std::future::pending().await,
            "/cut" => {
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nten bytes.")
                    .await?;
                return Ok(());
            }
            "/cut-chunked" => {
                socket
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
                    )
                    .await?;
                return Ok(());
            }
            "/until-close" => {
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\n\r\nto the end")
                    .await?;
                return Ok(());
            }
            "/bye" => return Ok(()),
            "/garbage" => {
                socket.write_all(b"SMTP ready\r\n\r\n").await?;
                return Ok(());
            }
            "/gzip-te" => {
                socket
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                    )
                    .await?;
            }
            "/once" => {
                // Closes a kept connection as soon as the proxy uses it again.
                socket.write_all(plain(&shared.tag).as_bytes()).await?;
                socket.read_u8().await?;
                return Ok(());
            }
            "/length" => {
                // As the request's own header says, with a body of five bytes.
                let length = field("x-length")
                    .unwrap()
                    .replace(';', "\r\ncontent-length: ");
                let body = if head.starts_with("HEAD ") {
                    ""
                } else {
                    "12345"
                };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                socket.write_all(answer.as_bytes()).await?;
            }
            "/upgrade-required" => {
                socket
                    .write_all(
                        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: TLS/1.2\r\nconnection: upgrade\r\n\
                          content-length: 0\r\n\r\n",
                    )
                    .await?;
            }
            "/no-content" => socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?,
            "/trailers" => {
                socket
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                          2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n",
                    )
                    .await?;
            }
            "/unasked-101" => {
                socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await?;
            }
            "/socket" if field("upgrade").is_some() => {
                socket
                    .write_all(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                          Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello ",
                    )
                    .await?;
                let mut buffer = [0; 1024];
                loop {
                    let read = socket.read(&mut buffer).await?;
                    if read == 0 {
                        return Ok(());
                    }
                    socket.write_all(&buffer[..read]).await?;
                }
            }
            _ if head.starts_with("HEAD ") => {
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n")
                    .await?;
            }
            _ => socket.write_all(plain(&shared.tag).as_bytes()).await?,
        }
    }
}

/// A body and its trailers.
async fn read_chunks(socket: &mut BufReader<TcpStream>) -> std::io::Result<(Vec<u8>, String)> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        let mut chunk = vec![0; size + 2];
        socket.read_exact(&mut chunk).await?;
        body.extend_from_slice(&chunk[..size]);
    }
    let mut trailers = String::new();
    loop {
        let begun = trailers.len();
        if socket.read_line(&mut trailers).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if &trailers[begun..] == "\r\n" {
            trailers.truncate(begun);
            return Ok((body, trailers));
        }
    }
}
