//! The app that the chaos test deploys: each entry is a row in Postgres and a message in JetStream, and is acknowledged
//! when both servers have it. Whatever happens to the servers, it reconnects by itself.
//!
//! `POST /entries/<n>` answers with `n`, or 503; `GET /entries` lists what both have; `GET /health` is 200 while both
//! answer; `GET /whoami` tells its release and a digest of its credentials.
#![forbid(unsafe_code)]

mod kept_rows;

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use vela_tests::ledger::{Failure, Messages};

use self::kept_rows::KeptRows;

struct Ledger {
    rows: KeptRows,
    messages: Messages,
    credentials: String,
    release: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    // Before anything slow: a signal must not find the process unprepared.
    let mut term = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, variable("PORT")?.parse()?)).await?;
    let ledger = Arc::new(Ledger::open().await?);
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            // Nothing is in flight by now, or the deployer has given it up.
            _ = term.recv() => return Ok(()),
        };
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let ledger = Arc::clone(&ledger);
                async move { Ok::<_, Infallible>(ledger.answer(request).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // A client that goes away harms its own answer only.
            drop(connection.await);
        });
    }
}

impl Ledger {
    async fn open() -> Result<Ledger, Failure> {
        let (database, nats) = (variable("DATABASE_URL")?, variable("NATS_URL")?);
        let digest = Sha256::digest(format!("{database}\n{nats}"));
        let messages = Messages::connect(&nats, &variable("VELA_APP_NAME")?).await?;
        Ok(Ledger {
            rows: KeptRows::of(database),
            messages,
            credentials: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            release: variable("VELA_RELEASE")?,
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let answer = match (request.method(), path, path.strip_prefix("/entries/")) {
            (&Method::GET, "/health", _) => self.health().await,
            (&Method::GET, "/entries", _) => self.entries().await,
            (&Method::GET, "/whoami", _) => Ok(json!({
                "credentials": self.credentials,
                "release": self.release,
            })
            .to_string()),
            (&Method::POST, _, Some(n)) => self.enter(n).await,
            _ => Err("there is nothing here".into()),
        };
        let (status, body) = match answer {
            Ok(body) => (StatusCode::OK, body),
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response
    }

    async fn health(&self) -> Result<String, Failure> {
        self.rows.get()?.ping().await?;
        // A health probe is what waits until everything is there.
        self.messages.ensure_stream().await?;
        Ok("healthy".to_owned())
    }

    async fn enter(&self, n: &str) -> Result<String, Failure> {
        let entry = n.parse()?;
        let rows = self.rows.get()?;
        tokio::try_join!(rows.insert(entry), self.messages.publish(entry))?;
        Ok(n.to_owned())
    }

    async fn entries(&self) -> Result<String, Failure> {
        let rows = self.rows.get()?;
        let (rows, messages) = tokio::try_join!(rows.all(), self.messages.all())?;
        Ok(json!({ "rows": rows, "messages": messages }).to_string())
    }
}

fn variable(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// The pause before the `attempt`th attempt to connect again.
fn pause(attempt: u32) -> Duration {
    (Duration::from_millis(10) * attempt).min(Duration::from_millis(250))
}
