use super::cluster::Cluster;
use super::departure::{drop_database, drop_role, lock};
use super::record::{Place, Record, Standing};
use super::roles::{self, Powers, RACES, is_race};
use super::session::{Door, Session};
use super::{KIND, Postgres};
use crate::postgres_url::PostgresUrl;
use crate::{OwnerName, ServiceError};

impl Postgres {
    /// Locks an owner's roles, or drops all that it has. What is to be done is written down before
    /// it is begun, so that whoever looks next knows how far it may have come.
    pub(super) async fn take_away(
        &self,
        owner: &OwnerName,
        purge: bool,
    ) -> Result<(), ServiceError> {
        let Some(mut record) = self.records.load(owner)? else {
            return Ok(());
        };
        let is_locked = record.standing == Standing::Removed;
        // A purge that was begun can only go on.
        let purge = purge || record.standing == Standing::Purging;
        if purge || !is_locked {
            record.standing = if purge {
                Standing::Purging
            } else {
                Standing::Leaving
            };
            self.records.save(owner, &record)?;
            let (door, session) = self.reach(owner, &record).await?;
            session.alone().await?;
            let powers = Powers::of(&session, door.is_here()).await?;
            let mut attempt = 1;
            loop {
                match apply(&door, &session, powers, &record, purge).await {
                    // Elsewhere, a statement of a call that was dropped may still run.
                    Err(error) if attempt < RACES && is_race(&error) => attempt += 1,
                    applied => break applied?,
                }
            }
            if purge {
                self.records.forget(owner)?;
            } else {
                record.standing = Standing::Removed;
                self.records.save(owner, &record)?;
            }
        }
        match record.place() {
            Place::Here(major) => self.stop_if_unused(&Cluster::new(&self.dir, major)).await,
            Place::Elsewhere => Ok(()),
        }
    }

    /// A session in the server of the owner, which is started for it if need be.
    async fn reach(
        &self,
        owner: &OwnerName,
        record: &Record,
    ) -> Result<(Door, Session), ServiceError> {
        match record.place() {
            Place::Here(major) => {
                let cluster = Cluster::new(&self.dir, major);
                self.servers.session(&cluster, false).await
            }
            Place::Elsewhere => {
                let url = record.admin().ok_or_else(|| ServiceError::Damaged {
                    path: self.records.path(owner),
                    source: "it does not say how to get into the server".into(),
                })?;
                let url = PostgresUrl::parse(url)
                    .map_err(|source| ServiceError::InvalidUrl { kind: KIND, source })?;
                let door = Door::elsewhere(&url);
                let session = door.open().await?;
                Ok((door, session))
            }
        }
    }
}

async fn apply(
    door: &Door,
    session: &Session,
    powers: Powers,
    record: &Record,
    purge: bool,
) -> Result<(), ServiceError> {
    let names: Vec<_> = record.databases.iter().map(|d| d.name.as_str()).collect();
    let seen = roles::look(session, powers, &names).await?;
    let each = || {
        let known = record.databases.iter();
        known.filter_map(|known| Some((known, seen.get(&known.name)?)))
    };
    for (known, seen) in each() {
        lock(session, known, seen).await?;
    }
    if purge {
        // A role may have something in another database of its owner's.
        for (known, seen) in each() {
            drop_database(session, known, seen).await?;
        }
        for (known, seen) in each() {
            drop_role(door, session, known, seen).await?;
        }
    }
    Ok(())
}
