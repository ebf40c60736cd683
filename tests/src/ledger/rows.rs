use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::Failure;

/// The longest wait for an answer of the server.
const PATIENCE: Duration = Duration::from_secs(2);

/// The table of entries, over one connection.
#[derive(Debug)]
pub struct Rows {
    client: Client,
    /// Closed when the connection has ended.
    ended: watch::Receiver<()>,
}

impl Rows {
    /// Connects, and makes the table if there is none.
    pub async fn connect(url: &str) -> Result<Rows, Failure> {
        let (client, connection) = timeout(PATIENCE, tokio_postgres::connect(url, NoTls)).await??;
        let (connected, ended) = watch::channel(());
        tokio::spawn(async move {
            // Why it ended is what each of its queries is told.
            drop(connection.await);
            drop(connected);
        });
        let rows = Rows { client, ended };
        let table = "CREATE TABLE IF NOT EXISTS entries (n bigint PRIMARY KEY)";
        timeout(PATIENCE, rows.client.batch_execute(table)).await??;
        Ok(rows)
    }

    /// Keeps an entry, once. Returns when it is committed.
    pub async fn insert(&self, n: i64) -> Result<(), Failure> {
        let insert = "INSERT INTO entries VALUES ($1) ON CONFLICT DO NOTHING";
        timeout(PATIENCE, self.client.execute(insert, &[&n])).await??;
        Ok(())
    }

    /// Every entry.
    pub async fn all(&self) -> Result<BTreeSet<i64>, Failure> {
        let rows = self.client.query("SELECT n FROM entries", &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Asks the server for a sign of life.
    pub async fn ping(&self) -> Result<(), Failure> {
        timeout(PATIENCE, self.client.batch_execute("SELECT 1")).await??;
        Ok(())
    }

    /// Waits until the connection has ended.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // Nothing is ever sent.
        while ended.changed().await.is_ok() {}
    }
}
