use std::path::PathBuf;
use std::sync::Arc;

use vela_manifest::{NatsSection, PostgresSection, ServicesSection};
use vela_services::{Download, InvalidDownload, Nats, Postgres, Provisioner, Runner};

use crate::dirs::Dirs;

/// Where Debian has the programs of each major version.
const POSTGRES_PROGRAMS: &str = "/usr/lib/postgresql";

/// The provisioners of `vela serve`, each with a directory of its own, as `[services]` of server.toml has them.
pub(crate) fn local(
    dirs: &Dirs,
    runner: &Arc<dyn Runner>,
    section: &ServicesSection,
) -> Result<Vec<Arc<dyn Provisioner>>, InvalidDownload> {
    let dir = |kind: &str| dirs.services().join(kind);
    let postgres = Postgres::new(dir("postgres"), Arc::clone(runner));
    let nats = Nats::new(dir("nats"), Arc::clone(runner));
    Ok(vec![
        Arc::new(configured_postgres(postgres, &section.postgres)),
        Arc::new(configured_nats(nats, &section.nats)?),
    ])
}

fn configured_postgres(postgres: Postgres, section: &PostgresSection) -> Postgres {
    match &section.programs {
        Some(programs) => {
            postgres.programs(vec![programs.clone(), PathBuf::from(POSTGRES_PROGRAMS)])
        }
        None => postgres,
    }
}

fn configured_nats(nats: Nats, section: &NatsSection) -> Result<Nats, InvalidDownload> {
    let mut download = Download::default();
    if let Some(url) = &section.url {
        download = download.from(url)?;
    }
    if let (Some(version), Some(sha256)) = (&section.version, &section.sha256) {
        let of = |arch: &'static str, digest: &Option<String>| Some((arch, digest.clone()?));
        let known = [of("amd64", &sha256.amd64), of("arm64", &sha256.arm64)];
        download = download.release(version, known.into_iter().flatten())?;
    }
    Ok(nats.download(download))
}
