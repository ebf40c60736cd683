use std::error::Error;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use crate::postgres_url::PostgresUrl;
use crate::{Bindings, OwnerName, Provisioner, ServiceError, ServiceSpec, ServiceStatus};

const KIND: &str = "postgres";
/// Between two attempts with a server that is about to accept connections.
const PAUSE: Duration = Duration::from_millis(50);

/// A Postgres database that exists already, and that somebody else runs.
///
/// `ensure` connects to the spec's `url` from here, logs in and asks `SELECT 1`. It gives
/// `DATABASE_URL`, which is the url as it was given, and its parts as `PGHOST`, `PGPORT`,
/// `PGUSER`, `PGDATABASE` and, if there is one, `PGPASSWORD`. It changes nothing on the server,
/// and `remove` takes nothing away, purge or not. A server that is starting is waited for.
///
/// TLS is not supported yet: a url with `sslmode=require`, `verify-ca` or `verify-full` is
/// refused. Parameters that only mean something to the program's own driver are passed on in
/// `DATABASE_URL` and otherwise ignored.
#[derive(Debug, Clone)]
pub struct ExistingPostgres {
    timeout: Duration,
}

impl ExistingPostgres {
    /// Gives a server five seconds to answer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            timeout: Duration::from_secs(5),
        }
    }

    /// Gives a server this time to answer: from the name's lookup to the answer of the query.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Default for ExistingPostgres {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Provisioner for ExistingPostgres {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn ensure(
        &self,
        _owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Bindings, ServiceError> {
        let (given, url) = url_of(spec)?;
        let deadline = Instant::now() + self.timeout;
        loop {
            match timeout_at(deadline, ask(&url.config)).await {
                Ok(Ok(())) => return Ok(url.bindings(given)),
                Ok(Err(error)) if is_starting(&error) && Instant::now() + PAUSE < deadline => {
                    sleep(PAUSE).await;
                }
                Ok(Err(error)) => {
                    return Err(explain(error, &url.address(), &url.user, &url.database));
                }
                Err(_) => {
                    return Err(ServiceError::TimedOut {
                        kind: KIND,
                        address: url.address(),
                        after: self.timeout,
                    });
                }
            }
        }
    }

    async fn bindings(
        &self,
        _owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        let (given, url) = url_of(spec)?;
        Ok(Some(url.bindings(given)))
    }

    async fn resume(&self) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn remove(&self, _owner: &OwnerName, _purge: bool) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError> {
        Ok(Vec::new())
    }
}

/// The url of a spec as it is given, and taken apart; an error if there is more than that.
fn url_of(spec: &ServiceSpec) -> Result<(&SecretString, PostgresUrl), ServiceError> {
    let given = spec
        .url
        .as_ref()
        .ok_or(ServiceError::MissingUrl { kind: KIND })?;
    for (key, is_set) in [
        ("version", spec.version.is_some()),
        ("databases", !spec.databases.is_empty()),
        ("extensions", !spec.extensions.is_empty()),
    ] {
        if is_set {
            return Err(ServiceError::Unsupported { kind: KIND, key });
        }
    }
    let url = PostgresUrl::parse(given)
        .map_err(|source| ServiceError::InvalidUrl { kind: KIND, source })?;
    Ok((given, url))
}

/// Logs in, asks for one row, and says goodbye.
async fn ask(config: &Config) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let question = async move {
        let answer = client.simple_query("SELECT 1").await;
        // Lets the connection end.
        drop(client);
        answer
    };
    // Driven here rather than by a task of its own, so that it can't outlive the attempt. How
    // the connection ended does not matter once the question is answered.
    let (answer, _ended) = tokio::join!(question, connection);
    answer.map(drop)
}

/// Whether the server is about to accept connections: it starts, or recovers from a crash.
pub(crate) fn is_starting(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::CANNOT_CONNECT_NOW)
}

/// What an error of the client means for the user.
pub(crate) fn explain(
    error: tokio_postgres::Error,
    address: &str,
    user: &str,
    database: &str,
) -> ServiceError {
    let kind = KIND;
    let address = address.to_owned();
    let code = error.code().cloned();
    // The cause says what happened; the error around it would only repeat it.
    let outer = error.to_string();
    let source = error.into_source().unwrap_or_else(|| outer.into());
    let auth_refused = matches!(
        code,
        Some(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    );

    if auth_refused || is_password_missing(&*source) {
        ServiceError::AuthRefused {
            kind,
            address,
            user: user.to_owned(),
            source,
        }
    } else if code == Some(SqlState::INVALID_CATALOG_NAME) {
        ServiceError::NoSuchDatabase {
            kind,
            address,
            database: database.to_owned(),
            source,
        }
    } else if never_connected(&*source) {
        ServiceError::Unreachable {
            kind,
            address,
            source,
        }
    } else {
        ServiceError::Failed {
            kind,
            address,
            source,
        }
    }
}

/// Whether the server asked for a password and the url has none: the client's own error, which
/// has no code.
fn is_password_missing(source: &(dyn Error + 'static)) -> bool {
    source.to_string() == "password missing"
}

/// Whether there was no connection, rather than one that broke.
fn never_connected(source: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, InvalidInput, UnexpectedEof};
    source.downcast_ref::<io::Error>().is_some_and(|error| {
        !matches!(
            error.kind(),
            BrokenPipe | ConnectionReset | InvalidData | InvalidInput | UnexpectedEof
        )
    })
}
