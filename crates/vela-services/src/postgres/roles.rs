use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use tokio_postgres::Row;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::Type;

use super::record::Database;
use super::session::{Session, identifier, literal};
use crate::ServiceError;

/// How often it is looked again when somebody else was at it at the same time.
pub(super) const RACES: usize = 5;

/// What the server says about one name: the role and the database that are called so.
#[derive(Debug, Default)]
pub(super) struct Seen {
    role: Option<SeenRole>,
    database: Option<SeenDatabase>,
}

#[derive(Debug)]
struct SeenRole {
    /// What takes each right away that it has and should not have, and gives back what it lacks.
    amends: Vec<&'static str>,
    /// Only a superuser is told.
    verifier: Option<String>,
    mark: Option<String>,
    member_of: Vec<String>,
}

#[derive(Debug)]
struct SeenDatabase {
    owner: String,
    /// Whether everybody may do something in it, such as connect.
    is_public: bool,
    is_open: bool,
}

/// What a server can do, and who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Powers {
    pub(super) is_superuser: bool,
    /// Whether the server is for nobody but what is made from here.
    pub(super) is_here: bool,
}

impl Seen {
    /// Whether everybody may do something in the database, such as connect.
    pub(super) fn is_public(&self) -> bool {
        self.database
            .as_ref()
            .is_some_and(|database| database.is_public)
    }

    /// Whom the name belongs to on the server, if it is there.
    pub(super) fn holder(&self) -> Option<(&'static str, String)> {
        if let Some(database) = &self.database {
            return Some(("database", database.owner.clone()));
        }
        let role = self.role.as_ref()?;
        let mark = role.mark.as_deref().unwrap_or_default();
        let owner = mark
            .strip_prefix("vela ")
            .and_then(|mark| mark.split(' ').next());
        Some(("role", owner.unwrap_or("somebody else").to_owned()))
    }

    /// Whether the role is there, and was made from here for this.
    pub(super) fn is_role_of(&self, known: &Database) -> bool {
        let made = |role: &SeenRole| known.created || role.mark.as_ref() == Some(&known.mark);
        self.role.as_ref().is_some_and(made)
    }

    /// Whether the database is there, and was made from here for this.
    pub(super) fn is_database_of(&self, known: &Database) -> bool {
        let is_its = |database: &SeenDatabase| {
            known.created || self.is_role_of(known) && database.owner == known.name
        };
        self.database.as_ref().is_some_and(is_its)
    }
}

impl Powers {
    pub(super) async fn of(session: &Session, is_here: bool) -> Result<Self, ServiceError> {
        if is_here {
            return Ok(Self {
                is_superuser: true,
                is_here,
            });
        }
        let asked = session
            .client()
            .query_one(
                "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user",
                &[],
            )
            .await;
        let row = asked.map_err(|error| session.explain(error))?;
        Ok(Self {
            is_superuser: row.get(0),
            is_here,
        })
    }
}

/// Asks for all of the names at once.
pub(super) async fn look(
    session: &Session,
    powers: Powers,
    names: &[&str],
) -> Result<BTreeMap<String, Seen>, ServiceError> {
    let (roles, verifier) = if powers.is_superuser {
        ("pg_authid", "r.rolpassword")
    } else {
        ("pg_roles", "NULL::text")
    };
    let question = format!(
        "SELECT n.name, r.oid IS NOT NULL, r.rolcanlogin, r.rolsuper, r.rolcreatedb, \
                r.rolcreaterole, r.rolreplication, r.rolbypassrls, \
                r.rolvaliduntil < 'infinity', {verifier}, shobj_description(r.oid, 'pg_authid'), \
                ARRAY(SELECT g.rolname::text FROM pg_auth_members m \
                      JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid), \
                d.oid IS NOT NULL, pg_get_userbyid(d.datdba)::text, d.datallowconn, \
                EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a \
                        WHERE a.grantee = 0) \
         FROM unnest($1::text[]) AS n (name) \
         LEFT JOIN {roles} r ON r.rolname = n.name \
         LEFT JOIN pg_database d ON d.datname = n.name"
    );
    // With the type said, it is asked and answered in one go.
    let answer = session
        .client()
        .query_typed(&question, &[(&names, Type::TEXT_ARRAY)])
        .await;
    let rows = answer.map_err(|error| session.explain(error))?;
    Ok(rows.iter().map(|row| (row.get(0), seen(row))).collect())
}

fn seen(row: &Row) -> Seen {
    let is = |column: usize| row.get::<_, Option<bool>>(column).unwrap_or_default();
    let has_role = is(1);
    let has_database = is(12);
    Seen {
        role: has_role.then(|| SeenRole {
            amends: [
                (!is(2), "LOGIN"),
                (is(3), "NOSUPERUSER"),
                (is(4), "NOCREATEDB"),
                (is(5), "NOCREATEROLE"),
                (is(6), "NOREPLICATION"),
                (is(7), "NOBYPASSRLS"),
                (is(8), "VALID UNTIL 'infinity'"),
            ]
            .into_iter()
            .filter_map(|(is_wrong, amend)| is_wrong.then_some(amend))
            .collect(),
            verifier: row.get(9),
            mark: row.get(10),
            member_of: row.get(11),
        }),
        database: has_database.then(|| SeenDatabase {
            owner: row.get(13),
            is_open: is(14),
            is_public: is(15),
        }),
    }
}

/// Makes the role and the database what they have to be, from whatever was seen.
///
/// What is there without being known here is left alone, with [`ServiceError::Taken`]. What was
/// complete once and lacks something now has been meddled with: that is put right, and said in the
/// log where data is gone.
pub(super) async fn settle(
    session: &Session,
    powers: Powers,
    wanted: &Database,
    seen: &Seen,
) -> Result<(), ServiceError> {
    let name = &wanted.name;
    let quoted = identifier(name);
    let is_anothers = seen.role.is_some() && !seen.is_role_of(wanted)
        || seen.database.is_some() && !seen.is_database_of(wanted);
    if is_anothers {
        return Err(taken(name, seen));
    }
    match &seen.role {
        None => {
            if wanted.created {
                tracing::warn!(role = name, "the role was gone, and is made again");
            }
            make_role(session, powers, wanted).await?;
        }
        Some(role) => amend_role(session, powers, wanted, role).await?,
    }
    let new = SeenDatabase {
        owner: name.clone(),
        is_public: true,
        is_open: false,
    };
    let database = match &seen.database {
        None => {
            if wanted.created {
                tracing::warn!(
                    database = name,
                    "the database was gone, and is made again: it is empty"
                );
            }
            // Closed until nobody but its owner may enter. Here `template1` is nobody's; on
            // another server it may be what its operator wants databases to be like.
            let template = if powers.is_here {
                "TEMPLATE template0"
            } else {
                ""
            };
            let create = format!(
                "CREATE DATABASE {quoted} OWNER {quoted} {template} ALLOW_CONNECTIONS false"
            );
            session.run(&create).await?;
            &new
        }
        Some(database) => database,
    };
    if &database.owner != name {
        session
            .run(&format!("ALTER DATABASE {quoted} OWNER TO {quoted}"))
            .await?;
    }
    if database.is_public {
        session
            .run(&format!("REVOKE ALL ON DATABASE {quoted} FROM PUBLIC"))
            .await?;
    }
    if !database.is_open {
        session
            .run(&format!("ALTER DATABASE {quoted} ALLOW_CONNECTIONS true"))
            .await?;
    }
    Ok(())
}

async fn make_role(
    session: &Session,
    powers: Powers,
    wanted: &Database,
) -> Result<(), ServiceError> {
    let quoted = identifier(&wanted.name);
    // One transaction: there is no role of this name that does not tell whose it is. That it has
    // no rights is what a new role is like.
    let mut make = format!(
        "CREATE ROLE {quoted} LOGIN PASSWORD {}; COMMENT ON ROLE {quoted} IS {}",
        literal(wanted.verifier.expose_secret()),
        literal(&wanted.mark)
    );
    if !powers.is_superuser {
        // To make a database for another role one must be a member of it.
        make.push_str(&format!("; GRANT {quoted} TO CURRENT_USER"));
    }
    session.run(&make).await
}

async fn amend_role(
    session: &Session,
    powers: Powers,
    wanted: &Database,
    role: &SeenRole,
) -> Result<(), ServiceError> {
    let quoted = identifier(&wanted.name);
    let mut statements = Vec::new();
    if !role.amends.is_empty() {
        statements.push(format!("ALTER ROLE {quoted} {}", role.amends.join(" ")));
    }
    let verifier = wanted.verifier.expose_secret();
    if powers.is_superuser && role.verifier.as_deref() != Some(verifier) {
        statements.push(set_password(wanted));
    }
    if role.mark.as_ref() != Some(&wanted.mark) {
        let mark = literal(&wanted.mark);
        statements.push(format!("COMMENT ON ROLE {quoted} IS {mark}"));
    }
    for group in &role.member_of {
        let group = identifier(group);
        statements.push(format!("REVOKE {group} FROM {quoted}"));
    }
    for statement in statements {
        session.run(&statement).await?;
    }
    Ok(())
}

/// The statement that gives the role its password back.
pub(super) fn set_password(wanted: &Database) -> String {
    format!(
        "ALTER ROLE {} PASSWORD {}",
        identifier(&wanted.name),
        literal(wanted.verifier.expose_secret())
    )
}

/// Keeps everybody out of the databases in which there is nothing of anybody's.
pub(super) async fn close_common_databases(session: &Session) -> Result<(), ServiceError> {
    session
        .run(
            "REVOKE ALL ON DATABASE postgres FROM PUBLIC; \
             REVOKE ALL ON DATABASE template1 FROM PUBLIC",
        )
        .await
}

/// The name is on the server, and nothing here knows of it.
pub(super) fn taken(name: &str, seen: &Seen) -> ServiceError {
    let (what, owner) = seen
        .holder()
        .unwrap_or(("name", "somebody else".to_owned()));
    ServiceError::Taken {
        what: format!("the {what} `{name}`"),
        owner,
    }
}

/// Whether somebody else did the same at the same time, such as a statement of a call that was
/// dropped: to look again and go on from there is then all it takes.
pub(super) fn is_race(error: &ServiceError) -> bool {
    let again = [
        SqlState::DUPLICATE_OBJECT,
        SqlState::DUPLICATE_DATABASE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::OBJECT_IN_USE,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::UNDEFINED_OBJECT,
        // "tuple concurrently updated"
        SqlState::INTERNAL_ERROR,
    ];
    let ServiceError::Failed { source, .. } = error else {
        return false;
    };
    source
        .downcast_ref::<DbError>()
        .is_some_and(|error| again.contains(error.code()))
}
