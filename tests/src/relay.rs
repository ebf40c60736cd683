use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// The longest wait for anything that a client is about to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stretch of network in front of a port of this machine, which can stall, be cut, and be mended.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    network: Arc<watch::Sender<Network>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Network {
    up: bool,
    /// Connections made so far, while it was up.
    connections: usize,
    /// Each ends the connections that were made before it.
    cuts: usize,
    /// How many more bytes it takes towards the port.
    allowance: usize,
    stalled: bool,
}

impl Relay {
    /// A network in good order before `port`.
    pub async fn before(port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Arc::new(watch::Sender::new(Network {
            up: true,
            connections: 0,
            cuts: 0,
            allowance: usize::MAX,
            stalled: false,
        }));
        Relay {
            port: listener.local_addr().unwrap().port(),
            accepting: tokio::spawn(accept(listener, port, Arc::clone(&network))),
            network,
        }
    }

    /// Where it is entered.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made over it.
    pub fn connections(&self) -> usize {
        self.network.borrow().connections
    }

    /// Waits until so many connections were made over it.
    pub async fn connected(&self, wanted: usize) {
        let what = format!("{wanted} connections");
        self.until(&what, |network| network.connections >= wanted)
            .await;
    }

    /// Lets so many more bytes through towards the port, and then none.
    pub fn stall_after(&self, bytes: usize) {
        self.network.send_modify(|network| {
            network.allowance = bytes;
            network.stalled = false;
        });
    }

    /// Waits until nothing more gets through.
    pub async fn stalled(&self) {
        self.until("a stall", |network| network.stalled).await;
    }

    /// Ends the connections that there are. New ones go through.
    pub fn cut(&self) {
        self.network.send_modify(|network| {
            network.cuts += 1;
            network.allowance = usize::MAX;
        });
    }

    /// Ends the connections that there are, and every new one at once.
    pub fn go_down(&self) {
        self.network.send_modify(|network| network.up = false);
        self.cut();
    }

    /// Lets connections through again.
    pub fn come_up(&self) {
        self.network.send_modify(|network| network.up = true);
    }

    async fn until(&self, what: &str, reached: impl Fn(&Network) -> bool) {
        let mut changes = self.network.subscribe();
        let reached = changes.wait_for(|network| reached(network));
        let reached = timeout(PATIENCE, reached).await;
        let in_time = reached.is_ok();
        drop(reached);
        assert!(in_time, "{what} never came: {self:?}");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, network: Arc<watch::Sender<Network>>) {
    // The connections end with the network.
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let accepted = network.send_if_modified(|network| {
            network.connections += usize::from(network.up);
            network.up
        });
        if accepted {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let cuts = network.borrow().cuts;
            connections.spawn(pass(client, server, cuts, Arc::clone(&network)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    cuts: usize,
    network: Arc<watch::Sender<Network>>,
) {
    let mut changes = network.subscribe();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = [0; 16 << 10];
        loop {
            let count = from_client.read(&mut buffer).await.unwrap_or(0);
            let mut allowed = count;
            network.send_if_modified(|network| {
                allowed = count.min(network.allowance);
                network.stalled = allowed < count;
                network.allowance = match network.allowance {
                    usize::MAX => usize::MAX,
                    bytes => bytes - allowed,
                };
                network.stalled
            });
            let sent = to_server.write_all(&buffer[..allowed]).await;
            if count == 0 || sent.is_err() {
                return;
            }
            if allowed < count {
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        _ = changes.wait_for(|network| network.cuts != cuts) => {}
    }
}
