use secrecy::SecretString;
use tokio_postgres::error::SqlState;

use super::names::wanted;
use super::provision::{bindings, other_place, parse};
use super::record::{Database, Place, Record};
use super::roles::set_password;
use super::session::{Door, Session};
use super::{KIND, Postgres, extensions};
use crate::{Bindings, OwnerName, ServiceError, ServiceSpec};

impl Postgres {
    /// Provides for an owner in the server of `url`, as the user of `url`.
    pub(super) async fn ensure_elsewhere(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
        url: &SecretString,
    ) -> Result<Bindings, ServiceError> {
        if spec.version.is_some() {
            return Err(ServiceError::Unsupported {
                kind: KIND,
                key: "version",
            });
        }
        let names = wanted(owner, spec)?;
        let server = parse(url)?;
        let mut record = match self.without_purge(owner).await? {
            None => Record::new(Place::Elsewhere),
            Some(record) if record.place() == Place::Elsewhere => record,
            Some(record) => {
                let wanted = format!("that of {}", server.address());
                return Err(other_place(owner, record.place(), wanted));
            }
        };
        let door = Door::elsewhere(&server);
        let session = door.open().await?;
        if record.set_admin(url) && !record.databases.is_empty() {
            self.records.save(owner, &record)?;
        }
        let record = self
            .ensure_databases(owner, record, &names, &door, &session)
            .await?;
        for name in &names {
            if let Some(database) = record.database(name) {
                log_in(&door, &session, database).await?;
            }
            if !spec.extensions.is_empty() {
                extensions::ensure(&door, name, &spec.extensions).await?;
            }
        }
        bindings(&server, &record, &names)
    }
}

/// Proves that the role can be used from here. Its password can't be seen by one who is no
/// superuser, so that it was changed shows only now.
async fn log_in(door: &Door, session: &Session, database: &Database) -> Result<(), ServiceError> {
    let as_role = door.of_role(&database.name, &database.password);
    match as_role.try_open().await? {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => {
            session.run(&set_password(database)).await?;
            as_role.open().await.map(drop)
        }
        Err(error) => Err(as_role.explain(error)),
    }
}
