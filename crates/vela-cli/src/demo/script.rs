use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vela_control::EventStream;
use vela_protocol::{DeployRequest, RollbackRequest};
use vela_release::Packed;

use super::DemoArgs;
use super::daemon::Daemon;
use super::fixture::{self, ACTS, APP, Act, HOST, What};
use super::load::{Load, LoadHandle, LoadOptions, Mark};
use super::report::{DemoReport, Deploy, seconds};
use super::stats;
use super::timeline::Timeline;
use crate::failure::Failure;

/// Between two operations: what a steady load looks like.
const PAUSE: Duration = Duration::from_secs(2);

/// When the demo ends although fewer requests were made than were asked for: on a very slow machine.
const LONGEST: Duration = Duration::from_secs(50);

/// Does everything that the demo shows, and tells it as it happens.
pub(super) async fn play(
    daemon: &Daemon,
    timeline: &Timeline<'_>,
    args: &DemoArgs,
) -> Result<DemoReport, Failure> {
    let mut deploys = Vec::new();
    let mut load: Option<LoadHandle> = None;
    for act in &ACTS {
        let deploy = perform(daemon, act, load.as_mut()).await?;
        timeline.deployed(act, &deploy);
        if load.is_none() {
            load = Some(start_load(daemon, &deploy, timeline, args)?);
        }
        deploys.push(deploy);
        sleep(PAUSE).await;
    }
    // Every act leaves a load behind, the first at the latest.
    let load = load.ok_or_else(|| Failure::new("the demo has no acts"))?;
    while load.requests() < args.requests && timeline.elapsed() < LONGEST {
        sleep(Duration::from_millis(100)).await;
    }
    let load = load.stop().await;
    let load = load.map_err(|error| Failure::of(&error))?;
    Ok(DemoReport {
        load,
        retries: stats::retries(&daemon.socket).await,
        seconds: seconds(timeline.elapsed()),
        deploys,
    })
}

fn start_load(
    daemon: &Daemon,
    first: &Deploy,
    timeline: &Timeline<'_>,
    args: &DemoArgs,
) -> Result<LoadHandle, Failure> {
    if !first.expected {
        let why = first.error.as_deref().unwrap_or(first.outcome);
        return Err(Failure::new(format!("the first deploy failed: {why}")));
    }
    let options = LoadOptions {
        rate: args.rate,
        ..LoadOptions::default()
    };
    timeline.loaded(&options);
    let load = Load::start(daemon.addr, HOST, options);
    let mut load = load.map_err(|error| Failure::of(&error))?;
    load.mark(Mark::Serves(vec![first.release.clone()]));
    Ok(load)
}

/// One operation from its request to its last event, each of which the load is told of.
async fn perform(
    daemon: &Daemon,
    act: &Act,
    mut load: Option<&mut LoadHandle>,
) -> Result<Deploy, Failure> {
    let begin = Instant::now();
    let mut events = match act.what {
        What::Deploy {
            version,
            strategy,
            args,
        } => {
            let manifest = fixture::manifest(&daemon.program, strategy, args).ok_or_else(|| {
                let program = daemon.program.display();
                Failure::new(format!("the path of this program is not UTF-8: {program}"))
            })?;
            deploy(daemon, version, manifest).await?
        }
        What::Rollback => rollback(daemon).await?,
    };
    let mut deploy = Deploy::new(act);
    while let Some(envelope) = events.next().await {
        let envelope = envelope?;
        deploy.observe(&envelope);
        if let Some(load) = &mut load {
            load.observe(&envelope);
        }
    }
    deploy.end(act, begin.elapsed());
    Ok(deploy)
}

/// Packs, uploads and deploys, as `vela deploy` does.
async fn deploy(daemon: &Daemon, version: &str, manifest: String) -> Result<EventStream, Failure> {
    let archive = daemon.dir().join(format!("{version}.tar.gz"));
    let packed = pack(daemon.dir(), version, &archive).await?;
    let upload = Uuid::new_v4();
    daemon.client.upload_file(upload, &archive, |_| {}).await?;
    let request = DeployRequest {
        deploy: Uuid::new_v4(),
        upload,
        build: false,
        size: packed.size,
        sha256: packed.sha256.to_string(),
        manifest,
        git: None,
        message: Some(format!("vela demo, {version}")),
        client: None,
    };
    Ok(daemon.client.deploy(APP, &request).await?)
}

async fn pack(dir: &Path, version: &str, archive: &Path) -> Result<Packed, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::because("cannot pack a release", error);
    let release = fixture::write_release(dir, version).map_err(|error| failed(&error))?;
    let file = std::fs::File::create_new(archive).map_err(|error| failed(&error))?;
    let packed =
        tokio::task::spawn_blocking(move || vela_release::pack(&release, file, &mut |_| {}));
    let packed = packed.await.map_err(|error| failed(&error))?;
    packed.map_err(|error| failed(&error))
}

async fn rollback(daemon: &Daemon) -> Result<EventStream, Failure> {
    let request = RollbackRequest {
        deploy: Uuid::new_v4(),
        to: None,
        hooks: false,
        client: None,
    };
    Ok(daemon.client.rollback(APP, &request).await?)
}
