use std::collections::BTreeSet;

use super::major::Major;
use super::session::{Door, Session, identifier};
use crate::ServiceError;

/// Creates in one database those of the extensions that it lacks.
pub(super) async fn ensure(
    door: &Door,
    database: &str,
    extensions: &[String],
) -> Result<(), ServiceError> {
    let session = door.of_database(database).open().await?;
    session.alone().await?;
    // Both are read whole and compared here: what an operator means in this database is up to
    // its owner.
    let created = names(
        &session,
        "SELECT extname::text FROM pg_catalog.pg_extension",
    )
    .await?;
    let missing: Vec<_> = extensions
        .iter()
        .filter(|extension| !created.contains(*extension))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let available = "SELECT name::text FROM pg_catalog.pg_available_extensions";
    let available = names(&session, available).await?;
    for extension in &missing {
        if !available.contains(*extension) {
            return Err(ServiceError::NoSuchExtension {
                address: door.address().to_owned(),
                extension: (*extension).clone(),
                major: major(&session).await?,
            });
        }
    }
    // Where the objects of an extension go that has no schema of its own.
    session.run("SET search_path = public").await?;
    for extension in missing {
        let create = format!("CREATE EXTENSION IF NOT EXISTS {}", identifier(extension));
        session.run(&create).await?;
    }
    Ok(())
}

async fn names(session: &Session, question: &str) -> Result<BTreeSet<String>, ServiceError> {
    let rows = session.client().query(question, &[]).await;
    let rows = rows.map_err(|error| session.explain(error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn major(session: &Session) -> Result<String, ServiceError> {
    let row = session.client().query_one("SHOW server_version_num", &[]);
    let row = row.await.map_err(|error| session.explain(error))?;
    let number: u32 = row.get::<_, String>(0).parse().unwrap_or_default();
    let major = u16::try_from(number / 10_000).ok().and_then(Major::new);
    Ok(major.map_or_else(|| "<version>".into(), |major| major.to_string()))
}
