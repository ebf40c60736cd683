//! Servers on real sockets that answer as badly as they are told to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use vela_health::Target;

/// A server that treats each connection the same; it ends with the value.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) target: Target,
    pub(crate) addr: SocketAddr,
    requests: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Server {
    /// Reads each request's head, hands it to `answer`, and closes when that is done.
    pub(crate) async fn new<F>(
        answer: impl Fn(TcpStream, String) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let target = Target::new(addr);
        let (seen, requests) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), seen.clone());
                tokio::spawn(async move {
                    let head = read_head(&mut stream).await?;
                    seen.send(head.clone()).ok();
                    answer(stream, head).await
                });
            }
        });
        Self {
            target,
            addr,
            requests,
            task,
        }
    }

    /// Answers each request with these bytes.
    pub(crate) async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::new(move |mut stream, _| {
            let bytes = Arc::clone(&bytes);
            async move {
                stream.write_all(&bytes).await?;
                stream.shutdown().await?;
                until_closed(&mut stream).await
            }
        })
        .await
    }

    /// The head of the next request.
    pub(crate) async fn request(&mut self) -> String {
        self.requests.recv().await.expect("the server runs")
    }

    /// How many requests came and were not looked at.
    pub(crate) fn more_requests(&mut self) -> usize {
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until the client has closed its end.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> io::Result<()> {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).expect("a head of ASCII"))
}
