use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

use super::{AppArgs, AppError, serve};

/// The app in the process of a test.
pub(in crate::demo) struct RunningApp {
    pub(in crate::demo) addr: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), AppError>>,
}

impl RunningApp {
    pub(in crate::demo) async fn start(release: &str, args: AppArgs) -> RunningApp {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let environment = BTreeMap::from([
            ("PORT".to_owned(), addr.port().to_string()),
            ("VELA_RELEASE".to_owned(), release.to_owned()),
        ]);
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let stop = async {
                stopped.await.ok();
            };
            serve(&args, environment, stop).await
        });
        while TcpStream::connect(addr).await.is_err() {
            assert!(!ended.is_finished(), "the app ended at once");
            yield_now().await;
        }
        RunningApp { addr, stop, ended }
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub(in crate::demo) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }
}
