use std::io;
use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Config, Error, NoTls};

use super::KIND;
use super::config::SUPERUSER;
use crate::ServiceError;
use crate::existing_postgres::{explain, is_starting};
use crate::postgres_url::PostgresUrl;

/// How long a server may take to let somebody in. One elsewhere may as well be starting.
const PATIENCE: Duration = Duration::from_secs(30);

/// For every session of the superuser, in databases that belong to others, whose owners choose
/// what a name means there and how statements run: nothing is looked up in what is theirs, and
/// nothing of a statement gets into the log.
const GUARDED: &str = "-c search_path=pg_catalog -c default_transaction_read_only=off \
    -c log_statement=none -c log_min_error_statement=panic -c log_min_duration_statement=-1 \
    -c log_duration=off -c lock_timeout=30s -c statement_timeout=60s";

/// The advisory lock of who changes something. Any number that no program would choose.
const TURN: i64 = 0x3b1f_90c6_7e24_a85d;

/// A connection that makes roles and databases.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    address: String,
    user: String,
    database: String,
    is_here: bool,
}

/// How to get into a server as one who may make roles and databases.
#[derive(Debug, Clone)]
pub(super) struct Door {
    config: Config,
    address: String,
    user: String,
    database: String,
    /// Whether the server is run here, and the session is the superuser's.
    is_here: bool,
}

impl Door {
    /// The socket of the server that is run here, by the user of this program.
    pub(super) fn here(run: &Path, port: u16) -> Self {
        let mut config = Config::new();
        config
            .host_path(run)
            .port(port)
            .user(SUPERUSER)
            .dbname(SUPERUSER)
            .options(GUARDED)
            .application_name("vela");
        Self {
            config,
            address: format!("127.0.0.1:{port}"),
            user: SUPERUSER.into(),
            database: SUPERUSER.into(),
            is_here: true,
        }
    }

    /// The url of an administrator elsewhere.
    pub(super) fn elsewhere(url: &PostgresUrl) -> Self {
        let mut config = url.config.clone();
        // A network that is gone in the middle of a statement ends it.
        config
            .keepalives_idle(PATIENCE)
            .tcp_user_timeout(PATIENCE)
            .application_name("vela");
        Self {
            config,
            address: url.address(),
            user: url.user.clone(),
            database: url.database.clone(),
            is_here: false,
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_here(&self) -> bool {
        self.is_here
    }

    /// The same into another database.
    pub(super) fn of_database(&self, database: &str) -> Self {
        let mut door = self.clone();
        door.config.dbname(database);
        door.database = database.into();
        door
    }

    /// The way in for a role with its password.
    pub(super) fn of_role(&self, role: &str, password: &SecretString) -> Self {
        let mut door = self.of_database(role);
        door.config.user(role).password(password.expose_secret());
        door.user = role.into();
        door
    }

    /// Waits for a server that is about to accept connections.
    pub(super) async fn open(&self) -> Result<Session, ServiceError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_open().await? {
                Ok(session) => return Ok(session),
                Err(error) if is_starting(&error) && Instant::now() < deadline => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// The inner error is the client's own, for those who go by its code.
    pub(super) async fn try_open(&self) -> Result<Result<Session, Error>, ServiceError> {
        let opened = async {
            let (client, connection) = self.config.connect(NoTls).await?;
            // Ends when the client is dropped; how does not matter then.
            tokio::spawn(connection);
            if !self.is_here {
                client.batch_execute("SET search_path = pg_catalog").await?;
            }
            Ok(Session {
                client,
                address: self.address.clone(),
                user: self.user.clone(),
                database: self.database.clone(),
                is_here: self.is_here,
            })
        };
        timeout(PATIENCE, opened)
            .await
            .map_err(|_| ServiceError::TimedOut {
                kind: KIND,
                address: self.address.clone(),
                after: PATIENCE,
            })
    }

    pub(super) fn explain(&self, error: Error) -> ServiceError {
        explain(error, &self.address, &self.user, &self.database)
    }
}

impl Session {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until no other session of this program changes something in this database, and keeps
    /// them out while this one is open. A call that was dropped, or that a crash ended, leaves its
    /// last statement to the server, which would change what was looked at before its end.
    ///
    /// Only where the server is run here: a pooler in front of another one would keep the lock
    /// when the session ends.
    pub(super) async fn alone(&self) -> Result<(), ServiceError> {
        match self.is_here {
            true => self.run(&format!("SELECT pg_advisory_lock({TURN})")).await,
            false => Ok(()),
        }
    }

    /// Runs one statement, or several as one transaction.
    pub(super) async fn run(&self, statement: &str) -> Result<(), ServiceError> {
        let ran = self.client.batch_execute(statement).await;
        ran.map_err(|error| self.explain(error))
    }

    pub(super) fn explain(&self, error: Error) -> ServiceError {
        explain(error, &self.address, &self.user, &self.database)
    }
}

/// Whether a session ended because its server did, or was not let in because it is about to come
/// back.
pub(super) fn was_cut_off(error: &ServiceError) -> bool {
    let source = match error {
        ServiceError::Unreachable { .. } => return true,
        ServiceError::Failed { source, .. } => source,
        _ => return false,
    };
    if let Some(said) = source.downcast_ref::<DbError>() {
        return [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
        ]
        .contains(said.code());
    }
    // The client's own word for it has no type.
    source.is::<io::Error>() || source.to_string() == "connection closed"
}

/// A name as SQL takes it, whatever is in it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it, whatever is in it.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        return format!(" E'{}'", quoted.replace('\\', "\\\\"));
    }
    format!("'{quoted}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_its_quotes() {
        assert_eq!(identifier("my-app"), r#""my-app""#);
        assert_eq!(identifier(r#"a"; DROP"#), r#""a""; DROP""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r" E'a\\''b'");
    }
}
