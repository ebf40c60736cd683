//! What is taken away from an owner that leaves. What is not of our making is left as it is.

use std::time::Duration;

use tokio::time::sleep;

use super::KIND;
use super::record::Database;
use super::roles::Seen;
use super::session::{Door, Session, identifier};
use crate::ServiceError;

/// Keeps the role from logging in, and ends its sessions. A role that is not there, or not of our
/// making, is left as it is.
pub(super) async fn lock(
    session: &Session,
    known: &Database,
    seen: &Seen,
) -> Result<(), ServiceError> {
    if !seen.is_role_of(known) {
        return Ok(());
    }
    let quoted = identifier(&known.name);
    session.run(&format!("ALTER ROLE {quoted} NOLOGIN")).await?;
    // A session is told to end, and ends a little later.
    for _ in 0..1000 {
        let told = session
            .client()
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1",
                &[&known.name],
            )
            .await;
        if told.map_err(|error| session.explain(error))?.is_empty() {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Err(ServiceError::Failed {
        kind: KIND,
        address: session.address().to_owned(),
        source: format!("the sessions of {quoted} do not end").into(),
    })
}

/// Drops the database. One that is not of our making is left as it is.
pub(super) async fn drop_database(
    session: &Session,
    known: &Database,
    seen: &Seen,
) -> Result<(), ServiceError> {
    if !seen.is_database_of(known) {
        return Ok(());
    }
    let quoted = identifier(&known.name);
    session
        .run(&format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)"))
        .await
}

/// Drops the role, once its databases are gone. One that is not of our making is left as it is.
pub(super) async fn drop_role(
    door: &Door,
    session: &Session,
    known: &Database,
    seen: &Seen,
) -> Result<(), ServiceError> {
    if !seen.is_role_of(known) {
        return Ok(());
    }
    let quoted = identifier(&known.name);
    // Others may have let it make something in their databases. It is theirs then.
    let asked = session
        .client()
        .query(
            "SELECT DISTINCT d.datname::text, pg_get_userbyid(d.datdba)::text FROM pg_shdepend s \
             JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.refobjid \
             WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = $1",
            &[&known.name],
        )
        .await;
    for row in asked.map_err(|error| session.explain(error))? {
        let (database, heir): (String, String) = (row.get(0), row.get(1));
        let heir = identifier(&heir);
        let session = door.of_database(&database).open().await?;
        session
            .run(&format!(
                "REASSIGN OWNED BY {quoted} TO {heir}; DROP OWNED BY {quoted}"
            ))
            .await?;
    }
    // What others have granted it on their databases themselves would keep it, too.
    session
        .run(&format!("DROP OWNED BY {quoted}; DROP ROLE {quoted}"))
        .await
}
