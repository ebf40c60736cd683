use secrecy::SecretString;

use super::cluster::Cluster;
use super::major::Major;
use super::names::{variable, wanted};
use super::record::{Place, Record, Standing};
use super::roles::{self, Powers, RACES, close_common_databases, is_race, settle};
use super::session::{Door, Session};
use super::{KIND, Postgres, extensions};
use crate::postgres_url::PostgresUrl;
use crate::{Bindings, OwnerName, ServiceError, ServiceSpec};

impl Postgres {
    /// Provides for an owner in the server that is run here.
    pub(super) async fn ensure_here(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Bindings, ServiceError> {
        let names = wanted(owner, spec)?;
        let asked = spec.version.as_deref().map(Major::wanted).transpose()?;
        let record = self.without_purge(owner).await?;
        let major = match (record.as_ref().map(Record::place), asked) {
            (Some(Place::Here(major)), None) => major,
            (Some(Place::Here(major)), Some(asked)) if asked == major => major,
            (Some(place), asked) => {
                let asked = asked.map_or_else(|| "one of this machine".into(), |m| m.to_string());
                return Err(other_place(owner, place, asked));
            }
            (None, Some(asked)) => asked,
            (None, None) => self.servers.default_major().await?,
        };
        let cluster = Cluster::new(&self.dir, major);
        let fresh = record.is_none() && self.is_fresh(major)?;
        let (door, session) = self.servers.session(&cluster, fresh).await?;
        let record = record.unwrap_or_else(|| Record::new(Place::Here(major)));
        let record = self
            .ensure_databases(owner, record, &names, &door, &session)
            .await?;
        if !spec.extensions.is_empty() {
            for name in &names {
                extensions::ensure(&door, name, &spec.extensions).await?;
            }
        }
        bindings(&server_of(&door)?, &record, &names)
    }

    /// What an owner was given for a spec, by its record.
    pub(super) fn given(
        &self,
        owner: &OwnerName,
        spec: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        let names = wanted(owner, spec)?;
        let Some(record) = self.records.load(owner)? else {
            return Ok(None);
        };
        let is_made = |name: &String| record.database(name).is_some_and(|one| one.created);
        if record.standing != Standing::Active || !names.iter().all(is_made) {
            return Ok(None);
        }
        let server = match (record.place(), &spec.url) {
            (Place::Here(major), None) => match Cluster::new(&self.dir, major).door()? {
                Some(door) => server_of(&door)?,
                None => return Ok(None),
            },
            (Place::Elsewhere, Some(url)) => parse(url)?,
            _ => return Ok(None),
        };
        bindings(&server, &record, &names).map(Some)
    }

    /// Whether nobody has, or may have, anything in this version's server.
    fn is_fresh(&self, major: Major) -> Result<bool, ServiceError> {
        let records = self.records.all()?;
        let is_elsewhere = |record: &Result<Record, ServiceError>| {
            record
                .as_ref()
                .is_ok_and(|record| record.place() != Place::Here(major))
        };
        Ok(records.values().all(is_elsewhere))
    }

    /// The owner's record, once a purge that was interrupted has come to its end.
    pub(super) async fn without_purge(
        &self,
        owner: &OwnerName,
    ) -> Result<Option<Record>, ServiceError> {
        let record = self.records.load(owner)?;
        if record.as_ref().map(|record| record.standing) == Some(Standing::Purging) {
            self.take_away(owner, true).await?;
            return Ok(None);
        }
        Ok(record)
    }

    /// Makes the roles and databases what they have to be. What they are to be is written down
    /// before the server is told.
    pub(super) async fn ensure_databases(
        &self,
        owner: &OwnerName,
        mut record: Record,
        names: &[String],
        door: &Door,
        session: &Session,
    ) -> Result<Record, ServiceError> {
        session.alone().await?;
        let powers = Powers::of(session, door.is_here()).await?;
        let common: &[&str] = if powers.is_here {
            &["postgres", "template1"]
        } else {
            &[]
        };
        let all: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .chain(common.iter().copied())
            .collect();
        let mut seen = roles::look(session, powers, &all).await?;

        let new: Vec<_> = names
            .iter()
            .filter(|name| record.database(name).is_none())
            .collect();
        for name in &new {
            self.refuse_if_anothers(owner, name, record.place())?;
            let seen = seen.get(name.as_str());
            if let Some(seen) = seen.filter(|seen| seen.holder().is_some()) {
                return Err(roles::taken(name, seen));
            }
        }
        if !new.is_empty() || record.standing != Standing::Active {
            for name in new {
                record.add(owner, name);
            }
            record.standing = Standing::Active;
            self.records.save(owner, &record)?;
        }

        if common
            .iter()
            .any(|name| seen.get(*name).is_some_and(roles::Seen::is_public))
        {
            close_common_databases(session).await?;
        }
        let mut attempt = 1;
        for name in names {
            while let (Some(database), Some(now)) = (record.database(name), seen.get(name.as_str()))
            {
                match settle(session, powers, database, now).await {
                    Ok(()) => break,
                    Err(error) if attempt < RACES && is_race(&error) => {
                        attempt += 1;
                        seen = roles::look(session, powers, &all).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let mut is_news = false;
        for database in &mut record.databases {
            if !database.created && names.contains(&database.name) {
                database.created = true;
                is_news = true;
            }
        }
        if is_news {
            self.records.save(owner, &record)?;
        }
        Ok(record)
    }

    /// A name belongs to whoever asked for it first. A record that can't be read does not stand in
    /// the way: what it may hold is on the server, and is found there.
    fn refuse_if_anothers(
        &self,
        owner: &OwnerName,
        name: &str,
        place: Place,
    ) -> Result<(), ServiceError> {
        for (other, record) in self.records.all()? {
            let Ok(record) = record else { continue };
            if &other != owner && record.place() == place && record.database(name).is_some() {
                return Err(ServiceError::Taken {
                    what: format!("the database `{name}`"),
                    owner: other.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// The server behind a door of this machine, as programs get at it.
fn server_of(door: &Door) -> Result<PostgresUrl, ServiceError> {
    parse(&format!("postgres://{KIND}@{}", door.address()).into())
}

/// A url, taken apart.
pub(super) fn parse(url: &SecretString) -> Result<PostgresUrl, ServiceError> {
    PostgresUrl::parse(url).map_err(|source| ServiceError::InvalidUrl { kind: KIND, source })
}

/// An owner's data stays where it is.
pub(super) fn other_place(owner: &OwnerName, place: Place, wanted: String) -> ServiceError {
    let server = match place {
        Place::Here(major) => format!("postgres-{major}"),
        Place::Elsewhere => "elsewhere".into(),
    };
    ServiceError::OtherVersion {
        owner: owner.to_string(),
        server: crate::ServerName::parse(&server).expect("both are names"),
        wanted,
    }
}

/// The variables of a program for these of its databases.
pub(super) fn bindings(
    server: &PostgresUrl,
    record: &Record,
    names: &[String],
) -> Result<Bindings, ServiceError> {
    let mut all = Bindings::new();
    for name in names.iter().rev() {
        let Some(database) = record.database(name) else {
            continue;
        };
        let url = server.of(name, &database.password, name);
        all.insert(variable(name), url.clone());
        // The last one that is entered here is the first.
        all.extend(parse(&url)?.bindings(&url));
    }
    Ok(all)
}
