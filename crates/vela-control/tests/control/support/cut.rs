use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A stretch of network between a client and a port: it can be cut, at once or after a number of bytes.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) port: u16,
    /// Bytes towards the port that connections may still carry.
    left: Arc<AtomicUsize>,
    cut: watch::Sender<()>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Cut {
    pub(crate) async fn before(port: u16) -> Cut {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let connections = Arc::new(AtomicUsize::new(0));
        let (cut, cuts) = watch::channel(());
        let (budget, count) = (Arc::clone(&left), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(relay(client, server, Arc::clone(&budget), cuts.clone()));
            }
        });
        Cut {
            port: own,
            left,
            cut,
            connections,
        }
    }

    /// Cuts after so many more bytes, once.
    pub(crate) fn after(&self, bytes: usize) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    /// Cuts what is connected now.
    pub(crate) fn now(&self) {
        self.cut.send(()).unwrap();
    }
}

async fn relay(
    client: TcpStream,
    server: TcpStream,
    left: Arc<AtomicUsize>,
    mut cut: watch::Receiver<()>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = [0; 16 << 10];
        loop {
            let count = from_client.read(&mut buffer).await.unwrap_or(0);
            let allowed = left.load(Ordering::SeqCst);
            if count == 0 || to_server.write_all(&buffer[..count]).await.is_err() {
                return;
            }
            if allowed != usize::MAX {
                let Some(rest) = allowed.checked_sub(count) else {
                    left.store(usize::MAX, Ordering::SeqCst);
                    return;
                };
                left.store(rest, Ordering::SeqCst);
            }
        }
    };
    cut.mark_unchanged();
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        _ = cut.changed() => {}
    }
}
