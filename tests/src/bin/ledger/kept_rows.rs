use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;
use vela_tests::ledger::{Failure, Rows};

use crate::pause;

/// The table of entries, over a connection that is made again whenever it ends.
pub(crate) struct KeptRows {
    current: watch::Receiver<Result<Arc<Rows>, String>>,
}

impl KeptRows {
    pub(crate) fn of(url: String) -> KeptRows {
        let (tell, current) = watch::channel(Err("not connected yet".to_owned()));
        tokio::spawn(async move {
            let mut failures = 0;
            loop {
                let now = match Rows::connect(&url).await.map(Arc::new) {
                    Ok(rows) => {
                        failures = 0;
                        if tell.send(Ok(Arc::clone(&rows))).is_err() {
                            return;
                        }
                        rows.ended().await;
                        Err("the connection was lost".to_owned())
                    }
                    Err(error) => Err(error.to_string()),
                };
                if tell.send(now).is_err() {
                    return;
                }
                failures += 1;
                sleep(pause(failures)).await;
            }
        });
        KeptRows { current }
    }

    /// The connection, if there is one now.
    pub(crate) fn get(&self) -> Result<Arc<Rows>, Failure> {
        self.current.borrow().clone().map_err(Failure::from)
    }
}
