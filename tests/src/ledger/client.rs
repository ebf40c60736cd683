use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use crate::{try_get, try_post};

/// The app, as its clients reach it.
#[derive(Debug, Clone)]
pub struct Ledger {
    addr: SocketAddr,
    host: String,
}

/// What the app keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// In Postgres.
    pub rows: BTreeSet<i64>,
    /// In JetStream, each as often as it is there.
    pub messages: Vec<i64>,
}

/// Which process answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whoami {
    /// A digest of its credentials.
    pub credentials: String,
    /// Its release.
    pub release: String,
}

impl Ledger {
    /// The app at `host`, through `addr`.
    pub fn new(addr: SocketAddr, host: &str) -> Ledger {
        Ledger {
            addr,
            host: host.to_owned(),
        }
    }

    /// Makes an entry. An error says nothing of whether it was made.
    pub async fn enter(&self, n: i64) -> io::Result<()> {
        let answer = try_post(self.addr, &self.host, &format!("/entries/{n}")).await?;
        if answer == (200, n.to_string()) {
            Ok(())
        } else {
            Err(io::Error::other(format!("{answer:?}")))
        }
    }

    /// What the app keeps.
    pub async fn entries(&self) -> io::Result<Entries> {
        let answer = self.ask("/entries").await?;
        let list = |name: &str| -> Vec<i64> {
            let list = answer[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_i64).collect()
        };
        Ok(Entries {
            rows: list("rows").into_iter().collect(),
            messages: list("messages"),
        })
    }

    /// Which process answers.
    pub async fn whoami(&self) -> io::Result<Whoami> {
        let answer = self.ask("/whoami").await?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Ok(Whoami {
            credentials: text("credentials"),
            release: text("release"),
        })
    }

    async fn ask(&self, path: &str) -> io::Result<Value> {
        let (status, body) = try_get(self.addr, &self.host, path).await?;
        if status != 200 {
            return Err(io::Error::other(format!("{status}: {body}")));
        }
        Ok(serde_json::from_str(&body)?)
    }
}
