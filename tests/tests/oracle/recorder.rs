use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::seen::{Entry, Next, next};

/// A backend that keeps what it is sent. It answers each request with 204, and asks for the connection's end.
pub(crate) struct Recorder {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Entry>>,
    /// How many connections are open.
    open: watch::Sender<usize>,
}

/// Asks, on a connection of its own, for an answer: then all connections before it were accepted.
const PING: &[u8] = b"PING";

impl Recorder {
    pub(crate) async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            open: watch::Sender::new(0),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                accepting.open.send_modify(|open| *open += 1);
                let shared = Arc::clone(&accepting);
                tokio::spawn(async move {
                    // A proxy may reset a connection.
                    record(socket, &shared).await.ok();
                    shared.open.send_modify(|open| *open -= 1);
                });
            }
        });
        Recorder { addr, shared }
    }

    /// All that it has seen since this was asked last, in their order, with those that were no one request for sure.
    /// Waits for the connections that there are to end.
    pub(crate) async fn take(&self) -> Vec<Entry> {
        let mut ping = TcpStream::connect(self.addr).await.unwrap();
        ping.write_all(PING).await.unwrap();
        assert_eq!(ping.read_u8().await.unwrap(), PING[0]);
        drop(ping);
        let mut open = self.shared.open.subscribe();
        open.wait_for(|&open| open == 0).await.unwrap();
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }
}

async fn record(mut socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while socket.read_buf(&mut bytes).await? > 0 {
        if bytes == PING {
            return socket.write_all(PING).await;
        }
        loop {
            match next(&bytes) {
                Next::Whole(seen, length) => {
                    bytes.drain(..length);
                    shared.seen.lock().unwrap().push(Ok(seen));
                    let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                    socket.write_all(answer).await?;
                }
                Next::Partial => break,
                Next::Broken(what) => {
                    shared.seen.lock().unwrap().push(Err(what));
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
