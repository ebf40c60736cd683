use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An upstream that answers 200 to each head, and keeps all that it gets, byte for byte.
pub(crate) struct Recorder {
    pub(crate) addr: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    pub(crate) async fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let recorded = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let number = {
                    let mut all = recorded.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let recorded = Arc::clone(&recorded);
                tokio::spawn(async move {
                    let (mut answered, mut buffer) = (false, [0; 4096]);
                    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                        let is_head = {
                            let got = &mut recorded.lock().unwrap()[number];
                            got.extend_from_slice(&buffer[..count]);
                            memchr::memmem::find(got, b"\r\n\r\n").is_some()
                        };
                        if is_head && !std::mem::replace(&mut answered, true) {
                            let answer =
                                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                            // The proxy may have gone.
                            socket.write_all(answer).await.ok();
                        }
                    }
                });
            }
        });
        Recorder { addr, connections }
    }

    /// What has come since this was asked last, by connection.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut connections = self.connections.lock().unwrap();
        let text =
            |bytes: &mut Vec<u8>| String::from_utf8_lossy(&std::mem::take(bytes)).into_owned();
        let all: Vec<String> = connections.iter_mut().map(text).collect();
        all.into_iter().filter(|one| !one.is_empty()).collect()
    }
}
